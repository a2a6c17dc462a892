/* Which results of the search come first. Sphinx counts in how many places the words stand, and sorts the rest by title.
   Here a page counts more whose headings have the words, and less if it only records what others explain. */
var Scorer = {
  objNameMatch: 11,
  objPartialMatch: 6,
  objPrio: { 0: 15, 1: 5, 2: -5 },
  objPrioDefault: 0,
  title: 15,
  partialTitle: 7,
  term: 5,
  partialTerm: 2,

  score: (result) => {
    const [page, title, anchor, description, score] = result;
    const asked = new URLSearchParams(window.location.search).get("q") || "";
    const words = asked.toLowerCase().split(/[^\w]+/).filter((word) => word.length > 3);
    const { alltitles, docnames } = Search._index;
    let [most, place] = [0, null];
    for (const [heading, places] of Object.entries(alltitles)) {
      const found = places.find(([number]) => docnames[number] === page);
      const shared = words.filter((word) => heading.toLowerCase().includes(word.slice(0, 6))).length;
      if (found && shared > most) [most, place] = [shared, found[1]];
    }
    if (most > 1 && place && !anchor) result[2] = `#${place}`; // the part of the page that is meant
    let bonus = 5 * most;
    if (/^(changelog|contributing|decisions|design|benchmarks|reference\/compat)/.test(page)) bonus -= 25;
    if (page === "reference/own-kinds") bonus -= 5;
    if (/^(how-to|explained|tutorial|kinds|ssh)/.test(page)) bonus += 2;
    return score + bonus;
  },
};

/* Sphinx has no numbers in its index: add the headings that have them, such as 429. Show each place once. The best
   result is the last of the list. */
const performSearch = Search._performSearch;
Search._performSearch = (query, ...words) => {
  const results = performSearch(query, ...words);
  const { alltitles, docnames, filenames, titles } = Search._index;
  for (const number of query.match(/\b\d+\b/g) || [])
    for (const [heading, places] of Object.entries(alltitles))
      if (heading.split(/\W+/).includes(number))
        for (const [page, anchor] of places) {
          const place = anchor ? `#${anchor}` : "";
          results.push([docnames[page], `${titles[page]} > ${heading}`, place, null, 10, filenames[page], SearchResultKind.title]);
        }
  const best = new Map(results.map(([page, , place, object], index) => [`${page}${place || ""}${object || ""}`, index]));
  return results.filter((result, index) => [...best.values()].includes(index));
};
