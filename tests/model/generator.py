"""Random scenarios that draw from all mechanisms at once.

Each scenario has a focus: a few mechanisms that it uses often. All others are rare in it. So each pair of mechanisms
comes together in many scenarios, however many mechanisms there are. What chance seldom brings about is a scene: a few
jobs, and what they need, that let one mechanism take effect beside all else."""

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from .scenario import (
    LAST_CALL,
    Group,
    Leaf,
    Plan,
    Reaction,
    Resource,
    Retry,
    Scenario,
    inputs_of,
    walk,
)
from .steps import (
    Add,
    Await,
    Bind,
    Call,
    Cancel,
    Drain,
    Fail,
    Give,
    Nap,
    Progress,
    Started,
    Steer,
    Step,
    Throttle,
    Use,
)

TRAITS = (
    "fails",
    "fails once",
    "critical",
    "tolerated",
    "critical_jobs",
    "skips",
    "alarm",
    "if settled",
    "settled",
    "forever",
    "service",
    "endless",
    "own task",
    "lingers",
    "goes on",
    "returns",
    "fails late",
    "slow shutdown",
    "bad shutdown",
    "timeout",
    "move on",
    "retry",
    "backoff",
    "group",
    "window",
    "priority",
    "input",
    "adds",
    "binds",
    "cancel",
    "drain",
    "await",
    "outside",
    "scheduler timeout",
    "cut",
    "backwards",
    "pool",
    "named",
    "rate",
    "budget",
    "keys",
    "used",
    "throttle",
    "backfill",
    "group needs",
    "limiter",
    "adaptive",
    "first",
    "stagger",
    "quorum",
    "on_job_settled",
    "answer",
    "idle",
    "group idle",
    "journal",
    "instant",
    "policy",
)
OFTEN, RARELY = 0.45, 0.03
DEPTH = 3
REACTIONS = {
    "goes on": Reaction.GO_ON,
    "returns": Reaction.RETURN,
    "fails late": Reaction.FAIL,
}
PLAIN: dict[str, Any] = {
    "requires": (),
    "settled": (),
    "forever": False,
    "critical": None,
    "run_if": "succeeded",
}
"""The options of a job that waits for nothing, and whose failure counts."""


class Generator:
    def __init__(
        self, seed: object, without: Sequence[str] = (), runs_apart: float = 0.04
    ) -> None:
        self.random = random.Random(repr(seed))
        self.apart = random.Random(f"{seed!r} apart").random() < runs_apart
        self.steering = random.Random(f"{seed!r} steering")
        self.meeting = random.Random(f"{seed!r} meeting")
        self.trying = random.Random(f"{seed!r} trying")
        self.rare = random.Random(f"{seed!r} rare")
        self.focus = set(self.random.sample(TRAITS, self.random.randint(2, 9)))
        if any(without):
            self.scenes = []
        else:
            self.scenes = self.random.sample(
                SCENES, self.random.choice((0, 0, 1, 2, 2))
            )
        self.without = set(without)
        self.numbers = itertools.count()
        self.left = self.random.choice((3, 5, 8, 12, 18))
        self.tokens = tuple(self.random.randint(1, 3) for _ in range(2))

    def on(self, trait: str) -> bool:
        chance = OFTEN if trait in self.focus else RARELY
        return self.chance(chance) and trait not in self.without

    def duration(self, most: int = 12) -> float:
        """Return a duration that no other equals."""
        return (
            self.random.randint(0, most) + (self.random.getrandbits(20) | 1) * 2.0**-20
        )

    def some(self, names: Sequence[str], most: int) -> tuple[str, ...]:
        count = min(len(names), self.random.randint(0, most))
        return tuple(self.random.sample(names, count))

    def chance(self, share: float) -> bool:
        """Return True in this share of the draws."""
        return self.random.random() < share

    def some_linger(self) -> float:
        """Draw how long a service lingers, which most do not."""
        linger = self.duration(2)
        return linger if self.chance(0.4) else 0.0

    def perhaps(self, share: float, *values: Any) -> tuple[Any, ...]:
        """Return the values in this share of the draws, and nothing in the others."""
        return values if self.chance(share) else ()

    # ---- the whole

    def scenario(self) -> Scenario:
        """Draw a scenario, without pauses and further tries."""
        if self.apart:
            root = self.runs()
        else:
            root = self.group(DEPTH, {"name": "root"}, [], {})
        if self.on("scheduler timeout") and not self.apart:
            root = replace(root, timeout=self.duration(30))
        names = [plan.name for plan in walk(root)][self.apart :]
        groups = [
            plan.name
            for plan in walk(root)
            if isinstance(plan, Group) and "run" not in plan.name
        ]
        outside = not any(self.without) and self.chance(0.1)
        outside = outside or self.on("outside")
        options: dict[str, Any] = {}
        has_journal = self.on("journal")
        if self.on("cut"):
            options["cut_at"] = self.duration(30)
        elif has_journal:
            options["cut_at"] = LAST_CALL / 10
        if has_journal:
            options["killed_at"] = self.duration(20)
        if outside and self.chance(0.7):
            cancel = (self.duration(20), self.random.choice(names))
            options["cancels"] = (cancel,)
        if outside and groups and self.chance(0.3):
            drain = (self.duration(20), self.random.choice(groups))
            options["drains"] = (drain,)
        options["keep_jobs"] = self.random.random() > 0.05
        root = self.with_rare_options(root)
        return Scenario(root=root, tokens=self.tokens, apart=self.apart, **options)

    def steered(self, drawn: Scenario) -> Scenario:
        """Draw pauses, most of which end, and other windows, by the body of a job or from outside."""
        self.random = self.steering
        groups = [
            plan
            for plan in walk(drawn.root)
            if isinstance(plan, Group) and plan.enough is None
        ][self.apart :]
        steers: list[tuple[float, Steer]] = []
        with_window = [group for group in groups if group.window is not None]
        for group in self.random.sample(
            [*groups, *with_window, *with_window], min(len(groups), 2)
        ):
            words: list[str | int] = ["pause", "pause", "resume"]
            if group.window is not None:
                words += [1, 2, 4]
            chosen = self.random.choices(words, k=self.random.randint(1, 4))
            when = 0.0
            for what in [*chosen, "resume"]:
                when += self.duration(5)
                steers.append((when, Steer(group.name, what)))
        if any(self.without) or self.random.random() > 0.15:
            return drawn
        if self.apart or self.chance(0.5):
            return replace(drawn, steers=tuple(steers))
        body: list[Step] = []
        for _, steer in sorted(steers, key=lambda each: each[0]):
            body += [Nap(self.duration(4)), steer]
        # The nap keeps what the body resumes from starting as the body's own slot becomes free.
        body.append(Nap(1.0 + 2.0**-21))
        return self.with_actor(drawn, body, 0.5)

    def with_actor(
        self, drawn: Scenario, body: Sequence[Step], share: float
    ) -> Scenario:
        """Add a job that does nothing but this, and is a forever job in this share of the draws."""
        job = Leaf(
            name=f"j{next(self.numbers)}",
            forever=self.chance(share),
            bodies=(tuple(body),),
        )
        return grown(drawn, [job])

    def tried(self, drawn: Scenario) -> Scenario:
        """Draw instants at which a job is tried again, or all that has failed, from outside or by the body of a job."""
        self.random = self.trying
        plans = [*walk(drawn.root)][self.apart :]
        names = [plan.name for plan in plans]
        groups = [plan.name for plan in plans if isinstance(plan, Group)]
        if any(self.without) or self.random.random() > 0.25:
            return drawn
        if not drawn.keep_jobs and self.random.random() > 0.7:
            return drawn
        chosen = [
            self.random.choice([*names, *groups, groups[0]])
            for _ in range(self.random.randint(1, 6))
        ]
        tries = [Steer(name, "try_again") for name in chosen]
        if self.apart or self.chance(0.6):
            steers = [(self.duration(20), step) for step in tries]
            return replace(drawn, steers=(*drawn.steers, *steers))
        body: list[Step] = []
        for step in tries:
            body += [Nap(self.duration(5)), step]
        return self.with_actor(drawn, body, 0.3)

    def with_meeting(self, drawn: Scenario, name: str) -> Scenario:
        """Add scenes in which mechanisms meet that chance does not bring together; "any" are some of them."""
        self.random = self.meeting
        if self.apart:
            return drawn
        if name == "any":
            number = self.random.randint(1, 3)
            scenes = self.random.sample([*MEETINGS.values()], number)
        else:
            scenes = [MEETINGS[name]]
        for scene in scenes:
            drawn = scene(self, drawn)
        return drawn

    def with_second_of_something(self, drawn: Scenario) -> Scenario:
        """Add scenes in which something comes for the second time, each to more than a tenth of all scenarios."""
        self.random = self.rare
        if any(self.without):
            return drawn
        for scene, share in SECONDS.items():
            if self.chance(share):
                drawn = replace(drawn, root=self.with_scene(drawn.root, scene(self)))
        return drawn

    def with_scene(self, root: Group, jobs: Sequence[Leaf | Group]) -> Group:
        """Put jobs into the outermost scheduler, or into the last of several runs."""
        if not self.apart:
            return with_jobs(root, jobs, [])
        *others, last = root.jobs
        assert isinstance(last, Group)
        return replace(root, jobs=(*others, with_jobs(last, jobs, [])))

    def with_rare_options(self, root: Group) -> Group:
        """Draw gaps and rates of keys, and rates that give up."""

        def changed(plan: Leaf | Group) -> Leaf | Group:
            if not isinstance(plan, Group):
                return plan
            pool = tuple(map(self.with_rare_option, plan.pool))
            return replace(plan, pool=pool, jobs=tuple(map(changed, plan.jobs)))

        return changed(root)  # type: ignore[return-value]

    def with_rare_option(self, resource: Resource) -> Resource:
        """Draw one of the options that few resources have."""
        if resource.kind == "keys" and self.chance(0.3):
            return replace(resource, gap=self.duration(6))
        if resource.kind == "keys" and self.chance(0.4):
            return replace(resource, of_rates=True)
        if resource.kind == "rate" and self.chance(0.3):
            return replace(resource, give_up=self.duration(6))
        return resource

    def runs(self) -> Group:
        """Draw two runs that share a pool."""
        pool = tuple(self.pool(DEPTH))
        pools = {each.name: each for each in pool}
        self.left = max(self.left, 6)
        jobs = []
        for number in range(2):
            self.left += 2
            run = self.group(DEPTH, {"name": f"run{number}"}, [], pools, has_pool=False)
            pool += run.pool
            jobs.append(replace(run, pool=()))
        return Group(name="runs", jobs=tuple(jobs), pool=pool)

    def group(
        self,
        depth: int,
        common: dict[str, Any],
        outside: list[str],
        pools: dict[str, Resource],
        has_pool: bool = True,
    ) -> Group:
        """Draw a scheduler; `pools` are the resources that its members may need."""
        pool: tuple[Resource, ...] = ()
        if has_pool and self.chance(0.7):
            pool = tuple(self.pool(depth))
        pools = {**pools, **{one.name: one for one in pool}}
        jobs: list[Leaf | Group] = []
        for _ in range(self.random.randint(1, max(1, self.left))):
            if self.left <= 0 and jobs:
                break
            usable = [*outside]
            for job in jobs:
                usable += usable_inputs(job)
            jobs.append(self.job(depth - 1, jobs, usable, pools))
        jobs = [self.with_late_steps(job, jobs) for job in jobs]
        inside: set[str] = set()
        for job in jobs:
            for each in walk(job):
                inside |= set(inputs_of(each))
        window = None
        if self.on("window"):
            window = self.random.choice((1, 1, 2, 3))
        adaptive = None
        if self.on("adaptive"):
            window = None
            low = self.random.randint(1, 3)
            adaptive = low, low + self.random.randint(0, 4)
        limiter = None
        if self.on("limiter") and adaptive is None:
            limiter = self.random.randrange(2)
            window = None
        options: dict[str, Any] = {}
        if self.on("backwards"):
            options["backwards"] = inside.isdisjoint(job.name for job in jobs)
        if self.on("backfill"):
            options["backfill"] = self.random.randint(0, 2)
        options["shutdown_timeout"] = 1.0 + 2.0**-15
        if self.chance(0.5):
            options["shutdown_timeout"] = self.duration()
        options["cleanup_timeout"] = 5.0 + 2.0**-14
        if self.chance(0.5):
            options["cleanup_timeout"] = self.duration()
        if self.on("critical_jobs"):
            options["critical_jobs"] = self.random.choice((True, False))
        if self.on("on_job_settled"):
            options["on_job_settled"] = self.duration(2)
        if self.on("policy"):
            options["policy"] = self.random.choice(("auto", "critical-path"))
        drawn = Group(
            **common,
            **options,
            jobs=tuple(jobs),
            pool=pool,
            window=window,
            limiter=limiter,
            adaptive=adaptive,
        )
        if common["name"] not in ("root", "run1"):
            return drawn
        scenes = self.scenes
        self.scenes = []
        for scene in scenes:
            drawn = scene(self, drawn)
        return drawn

    # ---- scenes

    def actor(self, *steps: Step, first: float = 4, **options: Any) -> Leaf:
        """Draw a job that naps and takes these steps, with a nap after each."""
        body: list[Step] = [Nap(self.duration(int(first)))]
        for step in steps:
            if isinstance(step, (Fail, Throttle)):
                body += [step]
            else:
                body += [step, Nap(self.duration(3))]
        common = self.common([]) | {"forever": False, "run_if": "succeeded"}
        return Leaf(**common | options, bodies=(tuple(body),))

    def resource(self, kind: str, total: float, **options: Any) -> Resource:
        """Draw a resource of a kind; each other one has a burst."""
        number = next(self.numbers)
        name = f"{'pool' if kind == 'amount' else kind}{number + 100}"
        burst = total * (number % 2)
        return Resource(
            name=name,
            kind=kind,
            total=total,
            per=7.0 + self.duration(9),
            burst=burst,
            **options,
        )

    def gives_up(self, group: Group) -> Group:
        """A job is throttled again and again."""
        rate = self.resource("rate", 2.0, give_up=self.duration(3))
        throttled = self.actor(
            Throttle(rate.name, self.duration(2)), first=1, needs=((rate.name, 1.0),)
        )
        return with_jobs(group, [throttled], [rate])

    def reserves(self, group: Group) -> Group:
        """A job overtakes another, or may not do so."""
        pool = self.resource("amount", 2.0)
        jobs = [
            self.actor(needs=((pool.name, need),), first=8, priority=0)
            for need in (1.0, 2.0, 1.0, 1.0)
        ]
        return replace(
            with_jobs(group, jobs, [pool]), backfill=self.random.choice((0, 1))
        )

    def does_not_reach(self, group: Group) -> Group:
        """A job awaits another that is never reached, after a drain, or while clean-up jobs run."""
        long = self.actor(first=30)
        unreached = self.actor(requires=(long.name,), run_if="succeeded")
        if self.chance(0.5):
            waits = self.actor(Await(unreached.name))
            drains = self.actor(Drain(group.name), first=12)
            return with_jobs(group, [long, unreached, waits, drains], [])
        fails = self.actor(Fail(), first=12, critical=True)
        waits = self.actor(
            Await(unreached.name),
            first=0,
            run_if="failed",
            requires=(fails.name,),
            settled=(),
        )
        return with_jobs(group, [long, unreached, fails, waits], [])

    def throttles_with_a_budget(self, group: Group) -> Group:
        """A job that needs a budget is throttled, and reserves it again."""
        budget = self.resource("budget", 4.0)
        rate = self.resource("rate", 2.0)
        needs = ((budget.name, 2.0), (rate.name, 1.0))
        one = self.actor(Throttle(rate.name, self.duration(2)), needs=needs)
        return with_jobs(
            group,
            [replace(one, bodies=(*one.bodies, (Nap(self.duration()),)))],
            [budget, rate],
        )

    def shares_a_budget(self, group: Group) -> Group:
        """A nested scheduler returns what is left of its budget."""
        budget = self.resource("budget", 6.0)
        use = self.perhaps(0.5, Use(budget.name, 1.0))
        jobs = tuple(
            self.actor(*use, needs=((budget.name, 2.0),))
            for _ in range(self.random.randint(1, 2))
        )
        needs = {"needs": ((budget.name, 5.0),), "forever": False}
        nested = Group(**self.common([]) | needs | self.limits(True), jobs=jobs)
        return with_jobs(group, [nested], [budget])

    def cancels_all(self, group: Group) -> Group:
        """A body cancels the scheduler."""
        return with_jobs(group, [self.actor(Cancel(group.name), first=20)], [])

    def cleans_up_with_needs(self, group: Group) -> Group:
        """A clean-up job gets its needs at once."""
        pool = self.resource("amount", 2.0)
        fails = self.actor(Fail(), first=12, critical=True)
        needs = {
            "needs": ((pool.name, 2.0),),
            "requires": (fails.name,),
            "run_if": "failed",
            "settled": (),
        }
        return with_jobs(group, [fails, self.actor(**needs)], [pool])

    def waits_for_a_token(self, group: Group) -> Group:
        """A job is cancelled that has its needs, and waits for its token."""
        budget = self.resource("budget", 4.0)
        first = [self.actor(first=12) for _ in range(self.tokens[0])]
        waits = self.actor(needs=((budget.name, 2.0),))
        cancels = self.actor(Cancel(waits.name), forever=True)
        nested = Group(
            **self.common([]) | {"forever": False},
            jobs=(*first, waits, cancels),
            limiter=0,
        )
        return with_jobs(group, [nested], [budget])

    def takes_a_failure(self, group: Group) -> Group:
        """A job awaits a failure, which belongs to it from then on."""
        fails = self.actor(Fail(), critical=None)
        return with_jobs(group, [fails, self.actor(Await(fails.name), first=2)], [])

    def minds_a_failure(self, group: Group) -> Group:
        """Jobs run because another has failed, or although it has."""
        fails = self.actor(Fail(), critical=None)
        after = {"requires": (fails.name,), "settled": ()}
        alarm = self.actor(run_if="failed", **after)
        anyway = self.actor(run_if="settled", **after)
        return with_jobs(
            group,
            [fails, alarm, anyway, self.actor(**after | {"settled": (fails.name,)})],
            [],
        )

    def overloads(self, group: Group) -> Group:
        """An adaptive window shrinks."""
        jobs = tuple(self.actor(*step) for step in ([Fail(slow=True)], [], []))
        nested = Group(
            **self.common([]) | self.limits(True) | {"forever": False},
            jobs=jobs,
            adaptive=(1, 4),
        )
        return with_jobs(group, [nested], [])

    def overspends(self, group: Group) -> Group:
        """A job needs more of a budget than is left."""
        budget = self.resource("budget", 3.0)
        return with_jobs(
            group, [self.actor(needs=((budget.name, 2.0),)) for _ in range(2)], [budget]
        )

    def staggers(self, group: Group) -> Group:
        """One call is made several times, each some seconds after the one before."""
        jobs = tuple(
            self.actor(*[Fail()] * self.on("fails"), first=9) for _ in range(3)
        )
        options = self.common([]) | {
            "forever": False,
            "own_task": False,
            "run_if": "succeeded",
        }
        first = Group(
            **options,
            jobs=jobs,
            enough=self.random.randint(1, 2),
            stagger=self.duration(2),
            policy="auto",
        )
        return with_jobs(group, [first], [])

    # ---- parts

    def pool(self, depth: int) -> Iterator[Resource]:
        """Draw the resources of a pool; the names are those of its level."""
        for kind in ("pool", "named", "rate", "budget", "keys"):
            if self.on(kind):
                total = float(self.random.randint(1, 4))
                if kind == "budget":
                    total += 2.0
                per = 7.0 + self.duration(9)
                name = f"{kind}{depth}"
                burst = total * (int(1000 * per) % 2)  # half of the rates have none
                yield Resource(
                    name=name,
                    kind="amount" if kind == "pool" else kind,
                    total=total,
                    per=per,
                    burst=burst,
                )

    def job(
        self,
        depth: int,
        before: list[Leaf | Group],
        usable: list[str],
        pools: dict[str, Resource],
    ) -> Leaf | Group:
        """Draw a job that stands behind those `before`."""
        self.left -= 1
        common = self.common(before)
        if depth > 0 and self.left > 0:
            if self.on("first") or self.on("quorum"):
                return self.first(common, pools)
            if self.on("group"):
                common |= self.limits(True)
                if self.on("group needs") and not common["forever"]:
                    common["needs"] = self.needs(pools, False)
                    rates = {
                        name: each
                        for name, each in pools.items()
                        if each.kind == "rate"
                    }
                    own = {
                        name: replace(pools[name], total=need)
                        for name, need in common["needs"]
                    }
                    if any(each.kind != "rate" for each in own.values()):
                        pools = {**rates, **own}
                return self.group(depth, common, usable, pools)
        return self.leaf(depth, common, before, usable, pools)

    def common(self, before: list[Leaf | Group]) -> dict[str, Any]:
        """Draw the options that leaves and groups have in common."""
        requires = self.some([job.name for job in before if may_be_required(job)], 2)
        common: dict[str, Any] = {
            "name": f"j{next(self.numbers)}",
            "requires": requires,
            "settled": tuple(name for name in requires if self.on("settled")),
            "critical": None,
        }
        if self.on("critical"):
            common["critical"] = True
        elif self.on("tolerated"):
            common["critical"] = False
        common["forever"] = self.on("forever")
        common["own_task"] = self.on("own task")
        common["run_if"] = "succeeded"
        if requires and self.on("alarm"):
            common["run_if"] = "failed"
        elif self.on("if settled"):
            common["run_if"] = "settled"
        if self.on("priority"):
            common["priority"] = self.random.randint(-2, 2)
        if self.on("policy"):
            common["expected"] = self.duration()
        return common

    def limits(self, is_group: bool = False) -> dict[str, Any]:
        """Draw retries and timeouts."""
        limits: dict[str, Any] = {}
        has_backoff = self.on("backoff")
        if has_backoff or self.on("retry"):
            first = 0.0
            if has_backoff:
                first = self.duration(4)
            limits["retry"] = Retry(
                times=self.random.randint(1, 3), first=first, factor=self.random.choice((1.0, 2.0)), cap=60.0,
                booms_only=self.chance(0.3),
            )  # fmt: skip
        moves_on = self.on("move on")
        if moves_on or self.on("timeout"):
            limits |= {
                "timeout": self.duration(),
                "on_timeout": "move_on" if moves_on else "fail",
            }
        if self.on("group idle" if is_group else "idle"):
            limits["idle_timeout"] = self.duration()
        return limits

    def needs(
        self, pools: dict[str, Resource], may_have_keys: bool = True
    ) -> tuple[tuple[str, float | str], ...]:
        """Draw what a job needs of the resources that it sees, and a key of one at most."""
        found: list[tuple[str, float | str]] = []
        for name, each in pools.items():
            if each.kind == "keys":
                has_keys = any(isinstance(need, str) for _, need in found)
                if may_have_keys and not has_keys and self.chance(0.5):
                    found.append((name, self.random.choice(("a", "b"))))
            elif self.chance(0.5):
                found.append((name, float(self.random.randint(1, int(each.total)))))
        return tuple(found)

    def first(
        self, common: dict[str, Any], pools: dict[str, Resource], depth: int = 2
    ) -> Group:
        """Draw a `First`: its jobs require nothing."""
        jobs: list[Leaf | Group] = []
        for _ in range(self.random.randint(1, 3)):
            self.left -= 1
            mine = self.common([]) | {"forever": False, "run_if": "succeeded"}
            if depth and self.on("group"):
                jobs.append(self.group(1, mine | self.limits(True), [], pools))
            elif depth and self.on("first"):
                jobs.append(self.first(mine, pools, depth - 1))
            else:
                jobs.append(self.leaf(-1, mine, [], [], pools, plain=True))
        common |= {"forever": False, "own_task": False}
        common["enough"] = 1
        if self.on("quorum"):
            common["enough"] = min(len(jobs), 2)
        if self.on("stagger"):
            common["stagger"] = self.duration(4)
        return Group(
            **common,
            jobs=tuple(jobs),
            policy="auto",
            shutdown_timeout=1.0,
            cleanup_timeout=5.0,
        )

    def leaf(
        self,
        depth: int,
        common: dict[str, Any],
        before: list[Leaf | Group],
        usable: list[str],
        pools: dict[str, Resource],
        plain: bool = False,
    ) -> Leaf:
        """Draw a job with a body; a `plain` one is neither a service nor a question."""
        service = self.on("service") and not plain
        answer = self.on("answer") and not service and not plain
        if service:
            common["forever"] = True
        if answer:
            common["forever"] = False
        needs: tuple[tuple[str, float | str], ...] = ()
        if not (common["forever"] or answer):
            needs = self.needs(pools)
        common["needs"] = needs
        if self.on("instant") and not service:
            bodies = self.instant_bodies(common, depth, before, pools)
        else:
            bodies = tuple(
                self.body(number, common, service, depth, before, pools)
                for number in range(self.random.randint(1, 3))
            )
        bodies = with_one_add(bodies)
        if answer:
            bodies = ((),)
        else:
            common |= self.limits()
        if not answer and self.on("input"):
            inputs = self.some(usable, 2)
            common["inputs"] = inputs
            # The job needs the result of an input, so `requires(settled=True)` refuses it.
            common["settled"] = tuple(
                name for name in common["settled"] if name not in inputs
            )
        if not answer and self.on("lingers"):
            common["linger"] = self.duration()
        common["unwinding"] = self.duration()
        if not answer:
            common["reaction"] = self.reaction()
        if self.on("slow shutdown"):
            common["shutdown"] = self.duration() / 4
        common["shutdown_fails"] = self.on("bad shutdown")
        return Leaf(**common, bodies=bodies, service=service, answer=answer)

    def reaction(self) -> Reaction:
        """Draw what a job does that is cancelled."""
        for trait, reaction in REACTIONS.items():
            if self.on(trait):
                return reaction
        return Reaction.OBEY

    def body(
        self,
        number: int,
        common: dict[str, Any],
        service: bool,
        depth: int,
        before: list[Leaf | Group],
        pools: dict[str, Resource],
    ) -> tuple[Step, ...]:
        """Draw what a body does: between any two steps that act it naps."""
        steps: list[Step] = []
        if service:
            steps += [Nap(self.duration()), Started()]
        steps.append(Nap(self.duration()))
        for step in self.acts(number, common, depth, before, pools):
            steps += [step, Nap(self.duration(6))]
        if self.on("endless") or (service and self.chance(0.7)):
            return (*steps, Nap(math.inf))
        throttled = [
            (name, need)
            for name, need in common["needs"]
            if pools[name].kind in ("rate", "keys", "amount")
        ]
        if throttled and number == 0 and self.on("throttle"):
            return (
                *steps,
                Throttle(self.random.choice(throttled)[0], self.duration(8)),
            )
        if self.on("fails") or (number == 0 and self.on("fails once")):
            steps.append(Fail(slow=self.chance(0.5)))
        return tuple(steps)

    def instant_bodies(
        self,
        common: dict[str, Any],
        depth: int,
        before: list[Leaf | Group],
        pools: dict[str, Resource],
    ) -> tuple[tuple[Step, ...], ...]:
        """Draw bodies that take no time, in which nothing happens that depends on others."""
        grows = self.on("adds") and self.left > 0 and depth >= 0
        steps: tuple[Step, ...] = ()
        if grows:
            steps = (self.add(common, depth, before, pools),)
        fails = (*steps, Fail())
        fails_once = self.on("fails once")
        if self.on("fails"):
            steps = fails
        return (fails, steps) if fails_once else (steps,)

    def acts(
        self,
        number: int,
        common: dict[str, Any],
        depth: int,
        before: list[Leaf | Group],
        pools: dict[str, Resource],
    ) -> Iterator[Step]:
        """Draw the steps of a body that act on others."""
        for name, need in common["needs"]:
            if (
                pools[name].kind in ("rate", "budget")
                and not isinstance(need, str)
                and self.on("used")
            ):
                yield Use(name, float(self.random.randint(0, int(need) + 1)))
        if self.on("idle"):
            yield Progress()
        waitable = [job.name for job in before if not job.forever]
        if waitable and self.on("await"):
            yield Await(self.random.choice(waitable), only_settled=self.chance(0.3))
        answers = [job.name for job in before if isinstance(job, Leaf) and job.answer]
        if answers:
            yield Give(self.random.choice(answers))
        if self.on("cancel"):
            yield Cancel(f"j{self.random.randint(0, 20)}")
        if self.on("drain"):
            groups = [job.name for job in before if isinstance(job, Group)]
            yield Drain(
                self.random.choice(["root", *groups, f"j{self.random.randint(0, 9)}"])
            )
        adds = self.on("adds") and number == 0
        if adds and self.left > 0 and depth >= 0:
            yield self.add(common, depth, before, pools)
        if self.on("binds"):
            yield Bind("", "")

    def add(
        self,
        common: dict[str, Any],
        depth: int,
        before: list[Leaf | Group],
        pools: dict[str, Resource],
    ) -> Add:
        """Draw a step that adds jobs."""
        known: list[Any] = [job for job in before if may_be_required(job)]
        added: list[Leaf | Group] = []
        for _ in range(self.random.randint(1, 2)):
            self.left -= 1
            mine = self.common([*known, *added])
            if depth > 1 and self.on("group"):
                added.append(self.group(1, mine | self.limits(True), [], pools))
            else:
                added.append(self.leaf(-1, mine, [*known, *added], [], pools))
        return Add(tuple(added))

    def with_late_steps(
        self, job: Leaf | Group, jobs: list[Leaf | Group]
    ) -> Leaf | Group:
        """Choose what `Bind` steps bind, now that all siblings are there; a job still comes after what it requires."""
        if isinstance(job, Group):
            return job
        pairs: list[tuple[str, str]] = []
        for number, later in enumerate(jobs):
            earlier = filter(may_be_required, jobs[:number])
            pairs += [(later.name, each.name) for each in earlier]
        bodies: list[tuple[Step, ...]] = []
        for body in job.bodies:
            steps: list[Step] = []
            for step in body:
                if not isinstance(step, Bind):
                    steps.append(step)
                elif pairs:
                    steps.append(Bind(*self.random.choice(pairs)))
            bodies.append(tuple(steps))
        return replace(job, bodies=tuple(bodies))

    # ---- meetings

    def merges_pools(self, drawn: Scenario) -> Scenario:
        """Two groups whose jobs wait for the gaps of keys of their own begin to share a pool."""
        shared = self.resource("amount", 1.0)
        needs = ((shared.name, 1.0),)
        groups = []
        for _ in range(2):
            keys = self.resource("keys", 1.0, gap=self.duration(6))
            same = [
                self.actor(first=3, needs=((keys.name, "a"),))
                for _ in range(self.random.randint(2, 3))
            ]
            gate = self.actor(first=5)
            late = self.actor(first=2, needs=needs, requires=(gate.name,), settled=())
            groups.append(
                Group(
                    **self.common([]) | {"forever": False},
                    jobs=(*same, gate, late),
                    pool=(keys,),
                )
            )
        return grown(drawn, [self.actor(first=8, needs=needs), *groups], [shared])

    def throttles_again(self, drawn: Scenario) -> Scenario:
        """A job fails between two throttles of a rate that gives up."""
        rate = self.resource("rate", 2.0, give_up=self.duration(4))
        throttles = [Throttle(rate.name, self.duration(2)) for _ in range(3)]
        steps: list[Step] = [throttles[0], Fail(), *throttles[1:], Progress()]
        job = self.actor(needs=((rate.name, 1.0),), retry=Retry(times=2))
        job = replace(
            job, bodies=tuple((Nap(self.duration(3)), step) for step in steps)
        )
        return grown(drawn, [job], [rate])

    def is_late(self, drawn: Scenario) -> Scenario:
        """A service becomes ready as its timeout cancels it, or as something else does."""
        started = {
            "service": True,
            "forever": True,
            "reaction": Reaction.START,
            "linger": self.duration(3),
        }
        limit = {
            "timeout": self.duration(6),
            "on_timeout": self.random.choice(("fail", "move_on")),
        }
        retry: dict[str, Any] = {}
        if self.chance(0.3):
            retry = {"retry": Retry(times=1)}
        service = self.actor(
            first=12, **started | (limit if self.chance(0.8) else {}) | retry
        )
        service = replace(service, bodies=((*service.bodies[0], Nap(math.inf)),))
        user = self.actor(requires=(service.name,), settled=())
        cancels = self.perhaps(0.3, self.actor(Cancel(service.name), first=9))
        return grown(drawn, [service, user, *cancels, self.actor(first=12)])

    def cleans_up_forever(self, drawn: Scenario) -> Scenario:
        """A forever job and another have the rule of clean-up jobs."""
        fails = self.actor(Fail(), first=9, critical=True)
        rule = {"requires": (fails.name,), "run_if": "failed", "settled": ()}
        watch = replace(
            self.actor(**rule | {"forever": True}), bodies=((Nap(math.inf),),)
        )
        jobs = [fails, watch, *self.perhaps(0.5, self.actor(**rule))]
        return grown(drawn, jobs)

    def learns_a_duration(self, drawn: Scenario) -> Scenario:
        """Jobs are added to those that wait, and they are the first with expected durations."""
        plain = {"expected": None, "requires": (), "settled": (), "critical": None}
        waiting = [
            self.actor(**plain, priority=self.random.choice((0, 0, 1)))
            for _ in range(3)
        ]
        added = tuple(
            self.actor(**plain | {"expected": self.duration()})
            for _ in range(self.random.randint(1, 3))
        )
        adds = self.actor(Add(added), **plain, priority=2)
        options = {
            "forever": False,
            "policy": "auto",
            "window": self.random.choice((1, 1, 2)),
        }
        nested = Group(
            **self.common([]) | options, jobs=(*waiting[:1], adds, *waiting[1:])
        )
        return grown(drawn, [nested])

    def goes_deep(self, drawn: Scenario) -> Scenario:
        """What became ready last starts first, where chains share a window."""
        plain = {"expected": None, "settled": (), "critical": None}
        jobs: list[Leaf | Group] = []
        for _ in range(self.random.randint(2, 3)):
            chain: list[Leaf | Group] = []
            for _ in range(3):
                required = tuple(job.name for job in chain[-1:])
                chain.append(
                    self.actor(
                        **plain,
                        requires=required,
                        priority=self.random.choice((0, 0, 0, 1)),
                    )
                )
            jobs += chain
        options = {
            "forever": False,
            "policy": "depth-first",
            "window": self.random.choice((1, 1, 2)),
        }
        nested = Group(**self.common([]) | options, jobs=tuple(jobs))
        return grown(drawn, [nested])

    def drops_failures(self, drawn: Scenario) -> Scenario:
        """Jobs fail where none is kept: one is tolerated, one is awaited, and one counts."""
        tolerated, awaited, counts = (
            self.actor(Fail(), critical=critical) for critical in (False, None, None)
        )
        takes = self.actor(Await(awaited.name), first=3)
        blocked = self.actor(
            requires=(self.random.choice((tolerated, awaited, counts)).name,),
            settled=(),
        )
        jobs = [
            tolerated,
            awaited,
            takes,
            *[counts, blocked][: self.random.randint(0, 2)],
        ]
        if counts not in jobs and blocked.requires == (counts.name,):
            jobs = jobs[:3]
        return grown(drawn, jobs, keep_jobs=False, killed_at=None)

    def some_steers(
        self, name: str, *words: str | int, most: int = 9
    ) -> tuple[tuple[float, Steer], ...]:
        """Draw the instants of some words to a scheduler or a job, one after the other."""
        whens = sorted(self.duration(most) for _ in words)
        return tuple(
            (when, Steer(name, word)) for when, word in zip(whens, words, strict=True)
        )

    def retries_after_trying_again(self, drawn: Scenario) -> Scenario:
        """A job that may be retried, alone or in a group that may be, is tried again, and fails again."""
        first = self.random.choice((0.0, self.duration(2)))
        retry = Retry(
            times=self.random.randint(1, 2),
            first=first,
            cap=self.random.choice((60.0, 1.0 + 2.0**-18)),
        )
        fails: tuple[Step, ...] = (Nap(self.duration(1)), Fail())
        good = self.actor(first=2)
        bodies = (*[fails] * self.random.randint(1, 6), (Nap(self.duration(1)),))
        job = replace(
            self.actor(retry=retry if self.chance(0.7) else None, critical=None),
            bodies=bodies,
        )
        jobs: list[Leaf | Group] = [good, job]
        if self.chance(0.6):
            group = {"forever": False, "critical": None, "run_if": "succeeded"}
            limits: dict[str, Any] = {}
            if self.chance(0.7):
                limits = {"retry": replace(retry, times=1)}
            jobs = [Group(**self.common([]) | group | limits, jobs=tuple(jobs))]
        steers: tuple[tuple[float, Steer], ...] = ()
        for plan in (jobs[-1], job):
            steers += self.some_steers(
                plan.name, *["try_again"] * self.random.randint(0, 3), most=20
            )
        jobs.append(
            replace(self.actor(forever=False), bodies=((Nap(20.0 + self.duration()),),))
        )
        return grown(drawn, jobs, steers=(*drawn.steers, *steers), killed_at=None)

    def tries_services_again(self, drawn: Scenario) -> Scenario:
        """A group with a service, a job that uses it and a job that fails is tried again, or one of these is."""
        started = {
            "service": True,
            "forever": True,
            "critical": None,
            "run_if": "succeeded",
        }
        bodies = tuple(
            (*self.actor(first=3).bodies[0], Started(), Nap(math.inf)) for _ in range(3)
        )
        if self.chance(0.4):
            bodies = (
                (
                    Nap(self.duration(3)),
                    *self.perhaps(0.5, Started()),
                    Fail(),
                ),
                *bodies,
            )
        service = replace(
            self.actor(**started, linger=self.some_linger()),
            bodies=bodies,
        )
        user = self.actor(first=4, requires=(service.name,), settled=(), critical=None)
        fails = [(Nap(self.duration(3)), Fail())] * self.random.randint(0, 3)
        job = replace(
            self.actor(critical=None), bodies=(*fails, (Nap(self.duration(3)),))
        )
        group = Group(
            **self.common([]) | {"forever": False, "critical": None},
            jobs=(service, user, job),
        )
        names = [
            self.random.choice((group, service, user, job)).name
            for _ in range(self.random.randint(1, 4))
        ]
        tries = tuple((self.duration(20), Steer(name, "try_again")) for name in names)
        cancel = (self.duration(6), self.random.choice((service, user)).name)
        cancels = self.perhaps(0.3, cancel)
        last = replace(
            self.actor(forever=False), bodies=((Nap(24.0 + self.duration()),),)
        )
        root = with_jobs(drawn.root, [group, last], [])
        drawn = replace(
            drawn, root=root, cancels=(*drawn.cancels, *cancels), killed_at=None
        )
        return replace(drawn, steers=(*drawn.steers, *tries))

    def tries_what_was_cancelled(self, drawn: Scenario) -> Scenario:
        """A job that was cancelled alone is tried again in a group that is drained."""
        job = self.actor(first=12, critical=None)
        others = [self.actor(first=12) for _ in range(self.random.randint(0, 1))]
        group = Group(
            **self.common([]) | {"forever": False, "run_if": "succeeded"},
            jobs=(job, *others),
        )
        when = self.duration(2)
        steers = ((when + self.duration(3), Steer(job.name, "try_again")),)
        drains: tuple[tuple[float, str], ...] = ()
        if self.chance(0.8):
            drains = ((when + 4.0 + self.duration(6), group.name),)
        root = with_jobs(
            drawn.root, [group, self.actor(requires=(group.name,), settled=())], []
        )
        return replace(
            drawn, root=root, steers=(*drawn.steers, *steers), drains=(*drawn.drains, *drains),
            cancels=(*drawn.cancels, (when, job.name)),
        )  # fmt: skip

    def holds(self, drawn: Scenario) -> Scenario:
        """The run is held where it would end with failures, and goes on by `resume`, `try_again`, or a drain."""
        fails: tuple[Step, ...] = (Nap(self.duration(3)), Fail())
        bodies = (*[fails] * self.random.randint(1, 4), (Nap(self.duration(3)),))
        job = replace(self.actor(critical=None), bodies=bodies)
        words = self.random.choices(
            ("try_again", "try_again", "resume", "pause"), k=self.random.randint(1, 5)
        )
        steers: tuple[tuple[float, Steer], ...] = ()
        for word in words:
            whole = word != "try_again" or self.chance(0.5)
            steers += self.some_steers(
                drawn.root.name if whole else job.name, word, most=40
            )
        resume = (60.0 + self.duration(), Steer(drawn.root.name, "resume"))
        steers += self.perhaps(0.7, resume)
        root = replace(with_jobs(drawn.root, [job], []), hold=True)
        return replace(
            drawn, root=root, steers=(*drawn.steers, *steers), killed_at=None
        )

    def pauses_as_jobs_start(self, drawn: Scenario) -> Scenario:
        """The body of the first of several jobs pauses their group, or the one around it, before the others begin."""
        pool = self.resource(self.random.choice(("amount", "rate", "budget")), 3.0)
        limits = self.random.choice(({}, {"window": 2}, {"window": 3}, {"limiter": 0}))
        with_needs = self.chance(0.4)
        with_priorities = self.chance(0.3)
        name = f"j{next(self.numbers)}"
        inner = f"{name}_in"
        outer = f"{name}_out"
        paused = self.random.choice((inner, outer))
        body: list[Step] = [Steer(paused, "pause"), Nap(self.duration(3))]
        if self.chance(0.5):
            body += [
                Steer(inner if paused == outer else outer, "resume"),
                Nap(self.duration(2)),
            ]
        body += [Steer(paused, "resume"), Nap(self.duration(2) + 1.0)]
        needs: dict[str, Any] = {}
        if with_needs:
            needs = {"needs": ((pool.name, 1.0),)}
        others = [
            self.actor(
                first=3,
                **PLAIN
                | needs
                | {"priority": self.random.randint(-1, 1) * with_priorities},
            )
            for _ in range(self.random.randint(1, 4))
        ]
        first = replace(
            self.actor(**PLAIN | {"priority": 2 * with_priorities}),
            bodies=(tuple(body),),
        )
        common = self.common([]) | PLAIN | {"own_task": False}
        after = {"requires": (inner,)}
        group: Group = Group(
            **common | {"name": inner} | limits, jobs=(first, *others), pool=(pool,)
        )
        group = Group(
            **common | {"name": outer, "expected": None},
            jobs=(group, self.actor(first=2, **PLAIN | after)),
        )
        return grown(drawn, [group])

    def staggers_in_full(self, drawn: Scenario) -> Scenario:
        """The turns of a `First` may never come by time, have jobs that others need, and meet a drain."""
        jobs: list[Leaf] = []
        for _ in range(self.random.randint(2, 4)):
            before = self.actor(first=2, **PLAIN)
            needs = self.chance(0.4)
            steps = self.perhaps(0.4, Fail())
            job = self.actor(
                *steps, first=5, **PLAIN | {"requires": (before.name,) * needs}
            )
            jobs += [*[before] * needs, job]
        number = sum(
            not any(job.name in each.requires for each in jobs) for job in jobs
        )
        stagger = self.random.choice(
            (None, math.inf, self.duration(2), self.duration(4))
        )
        options = self.common([]) | {
            "forever": False,
            "own_task": False,
            "run_if": "succeeded",
        }
        enough = self.random.randint(1, min(3, number))
        first = Group(
            **options, jobs=tuple(jobs), enough=enough, stagger=stagger, policy="auto"
        )
        drains = self.perhaps(0.4, (self.duration(9), first.name))
        after = self.actor(requires=(first.name,), settled=())
        root = with_jobs(drawn.root, [first, after], [])
        return replace(
            drawn, root=root, drains=(*drawn.drains, *drains), killed_at=None
        )

    def shows_life_inside(self, drawn: Scenario) -> Scenario:
        """A job shows signs of life to the schedulers around it, at any depth, which have idle timeouts."""
        body: list[Step] = []
        for _ in range(self.random.randint(2, 5)):
            body += [Nap(1.0 + self.duration(3)), Progress()]
        inner: Leaf | Group = replace(
            self.actor(forever=False), bodies=((*body, Nap(1.0)),), idle_timeout=None
        )
        for _ in range(self.random.randint(1, 3)):
            idle: dict[str, Any] = {}
            if self.chance(0.7):
                idle = {"idle_timeout": 2.0 + self.duration(3)}
            inner = Group(**self.common([]) | {"forever": False} | idle, jobs=(inner,))
        return grown(drawn, [inner])

    def reports_late(self, drawn: Scenario) -> Scenario:
        """Jobs report what they have used of a rate or a budget, late, before they fail or are throttled, or wait."""
        kind = self.random.choice(("rate", "rate", "budget"))
        resource = self.resource(kind, 3.0)
        throttle = self.resource("rate", 9.0)
        per = resource.per
        names = (
            (resource.name, float(self.random.randint(1, 3))),
            (throttle.name, 1.0),
        )
        jobs: list[Leaf] = []
        for _ in range(self.random.randint(2, 4)):
            nap = self.duration(3)
            if self.chance(0.4):
                nap += per
            body: list[Step] = [
                Nap(nap),
                Use(resource.name, float(self.random.randint(0, 3))),
                Nap(self.duration(2)),
            ]
            end = self.random.choice(
                ((), (), (Fail(),), (Throttle(throttle.name, self.duration(2)),))
            )
            retry: dict[str, Any] = {}
            if self.chance(0.4):
                retry = {"retry": Retry(times=1, first=self.duration(2))}
            job = self.actor(needs=names, critical=None, forever=False, **retry)
            jobs.append(replace(job, bodies=((*body, *end), (Nap(self.duration(2)),))))
        limiter = {"limiter": 0} if self.chance(0.4) else {}
        nested = Group(
            **self.common([]) | {"forever": False, "critical": None} | limiter,
            jobs=tuple(jobs),
        )
        return grown(drawn, [nested], [resource, throttle])

    def loses_its_turn(self, drawn: Scenario) -> Scenario:
        """A job that waits for a token is cancelled, or paused, among those of several groups that wait."""
        tokens = drawn.tokens[0]
        rate = self.resource("rate", 3.0)
        needs: dict[str, Any] = {}
        if self.chance(0.4):
            needs = {"needs": ((rate.name, 1.0),)}
        first = [self.actor(first=9, **PLAIN) for _ in range(tokens)]
        groups = []
        for _ in range(self.random.randint(2, 3)):
            # Who waits for it asks at a time of its own.
            body = (
                Nap(0.25 + self.duration(1) / 8),
                Started(),
                Nap(math.inf),
            )
            gate = replace(
                self.actor(**PLAIN | {"forever": True}), service=True, bodies=(body,)
            )
            after = PLAIN | needs | {"requires": (gate.name,)}
            jobs = [
                gate,
                *(
                    self.actor(first=3, **after)
                    for _ in range(self.random.randint(1, 3))
                ),
            ]
            groups.append(
                Group(**self.common([]) | PLAIN | {"own_task": False}, jobs=tuple(jobs))
            )
        nested = Group(**self.common([]) | PLAIN, jobs=(*first, *groups), limiter=0)
        waiting: list[str] = []
        for group in groups:
            waiting += [job.name for job in group.jobs[1:]]
        cancels = tuple(
            (1.0 + self.duration(4), self.random.choice(waiting))
            for _ in range(self.random.randint(1, 2))
        )
        steers: tuple[tuple[float, Steer], ...] = ()
        if self.chance(0.4):
            steers = self.some_steers(
                self.random.choice(groups).name, "pause", "resume", most=6
            )
        root = with_jobs(drawn.root, [nested], [rate])
        return replace(
            drawn,
            root=root,
            cancels=(*drawn.cancels, *cancels),
            steers=(*drawn.steers, *steers),
        )

    def retries_as_it_ends(self, drawn: Scenario) -> Scenario:
        """Jobs that may be retried fail during a drain, and in the clean-up of a critical failure."""
        retry = Retry(times=2, first=self.random.choice((0.0, self.duration(2))))
        fails: tuple[Step, ...] = (Nap(self.duration(3)), Fail())
        bodies = (*[fails] * self.random.randint(1, 2), (Nap(self.duration(3)),))
        job = replace(
            self.actor(critical=None, forever=False, retry=retry), bodies=bodies
        )
        bad = self.actor(Fail(), first=4, critical=True, forever=False)
        rule = {
            "requires": (bad.name,),
            "run_if": "failed",
            "settled": (),
            "forever": False,
        }
        tidy = replace(self.actor(**rule, retry=retry), bodies=bodies)
        if self.chance(0.6):
            jobs = (job, bad, tidy, self.actor(**rule))
        else:
            jobs = (job, self.actor(first=9))
        options = {
            "cleanup_timeout": 5.0 + self.duration(9),
            "critical": None,
            "forever": False,
            "run_if": "succeeded",
        }
        group = Group(**self.common([]) | options, jobs=jobs)
        drains = self.perhaps(0.5, (self.duration(6), group.name))
        return grown(drawn, [group], drains=(*drawn.drains, *drains))

    def grows_forever(self, drawn: Scenario) -> Scenario:
        """Forever jobs and services are added to a run, as the last, and a forever job adds ordinary ones."""
        endless = ((Nap(math.inf),),)
        added = replace(
            self.actor(forever=True),
            bodies=endless,
            linger=self.random.choice((0.0, self.duration(2))),
        )
        adds = self.actor(Add((added,)), first=3, forever=False, critical=None)
        more = self.actor(first=3, forever=False)
        watch = self.actor(Add((more,)), first=5, forever=True)
        jobs = [adds, *self.perhaps(0.5, watch)]
        options = {"forever": False, "run_if": "succeeded"}
        group = Group(**self.common([]) | options, jobs=tuple(jobs))
        return grown(drawn, [group] if self.chance(0.6) else jobs)

    def few_jobs(self, number: int, **options: Any) -> list[Leaf]:
        """Draw jobs that may require one another, and may fail in their first calls."""
        jobs: list[Leaf] = []
        for _ in range(number):
            fails = [(Nap(self.duration(3)), Fail())] * self.random.choice((0, 0, 1, 2))
            requires = self.some([job.name for job in jobs], 1)
            common = PLAIN | {"requires": requires} | options
            job = self.actor(**common)
            jobs.append(replace(job, bodies=(*fails, (Nap(self.duration(4)),))))
        return jobs

    def calls_back(self, drawn: Scenario) -> Scenario:
        """Functions that are told of jobs add, cancel and try again jobs, whose ends call them again."""
        jobs: list[Leaf | Group] = [*self.few_jobs(self.random.randint(2, 4))]
        if self.chance(0.3):
            inner = self.few_jobs(self.random.randint(1, 2))
            jobs.insert(0, self.group_of(inner))
        added = [*self.few_jobs(1), *self.few_jobs(self.random.randint(0, 1))]
        calls: list[Call] = []
        told = [job.name for job in jobs]
        known = [*told]
        for job in added:
            adder = self.random.choice(told)
            hook = self.random.choice(("settled", "settled", "scheduled"))
            calls.append(Call(hook, adder, 0, Add((job,))))
            known.append(job.name)
        for _ in range(self.random.randint(1, 4)):
            who = self.random.choice(known)
            hook = self.random.choice(("settled", "settled", "scheduled"))
            target = self.random.choice((who, self.random.choice(known)))
            step: Step = Cancel(target)
            if self.chance(0.7):
                step = Steer(target, "try_again")
            calls.append(Call(hook, who, self.random.choice((0, 0, 1)), step))
        window = self.random.choice((None, None, 1, 2))
        options: dict[str, Any] = {"window": window, "calls": tuple(calls)}
        group = self.group_of(jobs, **options)
        after = self.actor(**PLAIN | {"requires": (group.name,)})
        return grown(drawn, [group, after], killed_at=None)

    def pays_again(self, drawn: Scenario) -> Scenario:
        """Jobs that need a budget are retried, and tried again: each attempt pays."""
        budget = self.resource("budget", float(self.random.randint(4, 9)))
        needs = ((budget.name, 2.0),)
        jobs: list[Leaf | Group] = []
        for job in self.few_jobs(self.random.randint(2, 3), needs=needs):
            retry = None
            if self.chance(0.5):
                retry = Retry(
                    times=1, first=self.random.choice((0.0, self.duration(2)))
                )
            bodies: list[tuple[Step, ...]] = []
            for body in job.bodies:
                use = self.perhaps(
                    0.5, Use(budget.name, float(self.random.randint(0, 3)))
                )
                bodies.append((Nap(self.duration(2)), *use, *body))
            jobs.append(replace(job, retry=retry, bodies=tuple(bodies)))
        names = [job.name for job in jobs]
        if self.chance(0.4):
            share: dict[str, Any] = {}
            if self.chance(0.5):
                share = {"needs": ((budget.name, 4.0),)}
            jobs = [self.group_of(jobs, **share)]
            names.append(jobs[0].name)
        steers: tuple[tuple[float, Steer], ...] = ()
        for _ in range(self.random.randint(1, 4)):
            steers += self.some_steers(self.random.choice(names), "try_again", most=16)
        last = replace(self.actor(**PLAIN), bodies=((Nap(20.0 + self.duration()),),))
        root = with_jobs(drawn.root, [*jobs, last], [budget])
        killed_at = self.random.choice((None, self.duration(20)))
        return replace(
            drawn, root=root, steers=(*drawn.steers, *steers), killed_at=killed_at
        )

    def asks_in_vain(self, drawn: Scenario) -> Scenario:
        """A question is open that only jobs use which cannot run, until what has failed is tried again."""
        answer = Leaf(**self.common([]) | PLAIN, answer=True)
        fails = [(Nap(self.duration(3)), Fail())] * self.random.randint(1, 2)
        bad = replace(self.actor(**PLAIN), bodies=(*fails, (Nap(self.duration(3)),)))
        user = self.actor(**PLAIN | {"requires": (answer.name, bad.name)})
        jobs: list[Leaf | Group] = [answer, bad, user]
        if self.chance(0.4):
            gives = self.actor(Give(answer.name), first=10, **PLAIN)
            jobs.append(gives)
        names = [bad.name, user.name, answer.name]
        if self.chance(0.5):
            inner = self.group_of(jobs)
            names.append(inner.name)
            jobs = [inner]
        steers: tuple[tuple[float, Steer], ...] = ()
        for _ in range(self.random.randint(0, 2)):
            steers += self.some_steers(
                self.random.choice((bad.name, *names)), "try_again", most=9
            )
        if self.chance(0.5):
            jobs.append(self.actor(**PLAIN, first=12))
        return grown(drawn, jobs, steers=(*drawn.steers, *steers), killed_at=None)

    def takes_groups_back(self, drawn: Scenario) -> Scenario:
        """Nested schedulers, and what stands before, in and behind them, are tried again and cancelled."""
        before = self.few_jobs(1)[0]
        inner = self.group_of(self.few_jobs(self.random.randint(1, 2)))
        members = self.few_jobs(self.random.randint(1, 2))
        rest = {"requires": (before.name,) * self.chance(0.7)}
        if self.chance(0.3):
            rest["retry"] = Retry(times=1, first=self.duration(1))  # type: ignore[assignment]
        outer = self.group_of([*members, inner], **rest)
        after = self.actor(**PLAIN | {"requires": (outer.name,)})
        names = [before.name, after.name, *(plan.name for plan in walk(outer))]
        groups = [inner.name, outer.name]
        steers: tuple[tuple[float, Steer], ...] = ()
        for _ in range(self.random.randint(1, 5)):
            who = self.random.choice([*names, *groups])
            steers += self.some_steers(who, "try_again", most=20)
        cancels: tuple[tuple[float, str], ...] = ()
        for _ in range(self.random.choice((0, 1, 1, 2))):
            cancels += (
                (self.duration(14), self.random.choice([*groups, *groups, *names])),
            )
        last = replace(self.actor(**PLAIN), bodies=((Nap(24.0 + self.duration()),),))
        return grown(
            drawn, [before, outer, after, last], steers=(*drawn.steers, *steers),
            cancels=(*drawn.cancels, *cancels), killed_at=None,
        )  # fmt: skip

    # ---- the second of something

    def group_of(self, jobs: Sequence[Leaf | Group], **options: Any) -> Group:
        """Draw a group that begins at once, and whose failure may count."""
        return Group(**self.common([]) | PLAIN | options, jobs=tuple(jobs))

    def drains_a_clean_up(self) -> list[Leaf | Group]:
        """A job that cleans up in a group drains it, or is a group that is drained; another one waits behind it."""
        name = f"j{next(self.numbers)}"
        inner = f"j{next(self.numbers)}"
        bad = self.actor(Fail(), first=3, critical=True)
        rule = {
            "requires": (bad.name,),
            "run_if": "failed",
            "settled": (),
            "forever": False,
            "critical": None,
        }
        tidy: Leaf | Group = self.actor(
            Drain(self.random.choice((name, inner))), first=2, **rule
        )
        if self.chance(0.5):
            drains = self.actor(
                Drain(self.random.choice((name, inner))), first=2, critical=None
            )
            tidy = self.group_of(
                [drains, self.actor(first=4, requires=(drains.name,), settled=())],
                **rule,
                name=inner,
            )
        late = self.actor(first=2, **rule | {"requires": (bad.name, tidy.name)})
        waits = self.perhaps(0.5, self.actor(Await(late.name), first=1, **rule))
        retry: dict[str, Any] = {}
        if self.chance(0.4):
            retry = {"retry": Retry(times=1)}
        jobs = (bad, self.actor(first=9), tidy, late, *waits)
        return [
            self.group_of(
                jobs, **retry, name=name, cleanup_timeout=6.0 + self.duration(9)
            )
        ]

    def tries_thrice(self) -> list[Leaf | Group]:
        """A job fails, and is tried again and again, alone or with its group."""
        fails: tuple[Step, ...] = (Nap(self.duration(2)), Fail())
        retry = None
        if self.chance(0.2):
            retry = Retry(times=1, first=self.duration(1))
        job = self.actor(critical=None, retry=retry)
        job = replace(
            job, bodies=(*[fails] * self.random.randint(2, 4), (Nap(self.duration(3)),))
        )
        jobs: list[Leaf | Group] = [
            job,
            self.actor(requires=(job.name,), settled=(), critical=None),
        ]
        names = [job.name]
        if self.chance(0.5):
            calls: dict[str, Any] = {}
            if self.chance(0.3):
                calls = {"on_job_settled": self.duration(2)}
            jobs = [self.group_of(jobs, **calls)]
            names.append(jobs[0].name)
        body: list[Step] = []
        for _ in range(self.random.randint(2, 4)):
            body += [
                Nap(5.0 + self.duration(2)),
                Steer(self.random.choice(names), "try_again"),
            ]
        tries = replace(
            self.actor(forever=False), bodies=((*body, Nap(self.duration(4))),)
        )
        return [*jobs, tries]

    def serves_two(self) -> list[Leaf | Group]:
        """Two jobs use one service, which ends after the last; one of them may fail, or be retried."""
        started = {
            "service": True,
            "forever": True,
            "critical": None,
            "run_if": "succeeded",
        }
        service = self.actor(**started, linger=self.some_linger())
        service = replace(
            service, bodies=((*service.bodies[0], Started(), Nap(math.inf)),)
        )
        after = {"requires": (service.name,), "settled": (), "critical": None}
        fails = self.perhaps(0.3, Fail())
        retry = None
        if self.chance(0.5):
            retry = Retry(times=1)
        users = [
            self.actor(first=6, **after),
            self.actor(*fails, first=3, **after, retry=retry),
        ]
        jobs = [service, *users]
        if self.chance(0.5):
            return [self.group_of(jobs)]
        return jobs

    def asks_in_a_retry(self) -> list[Leaf | Group]:
        """A question in a group is asked again in the next attempt of the group, and answered in both."""
        answer = Leaf(
            **self.common([]) | {"forever": False, "run_if": "succeeded"}, answer=True
        )
        gives = self.actor(Give(answer.name), first=4, critical=None)
        uses = self.actor(first=2, requires=(answer.name,), settled=(), critical=None)
        bad = self.actor(
            Fail(), first=6, critical=self.random.choice((True, None, None))
        )
        retry = Retry(
            times=self.random.randint(1, 2),
            first=self.random.choice((0.0, self.duration(2))),
        )
        return [self.group_of([answer, gives, uses, bad], retry=retry)]


SECONDS = {
    Generator.drains_a_clean_up: 0.17,
    Generator.tries_thrice: 0.22,
    Generator.serves_two: 0.1,
    Generator.asks_in_a_retry: 0.16,
}
"""How often each scene is drawn: it takes effect in each tenth scenario."""
SCENES = (
    Generator.gives_up,
    Generator.reserves,
    Generator.does_not_reach,
    Generator.throttles_with_a_budget,
    Generator.shares_a_budget,
    Generator.cancels_all,
    Generator.cleans_up_with_needs,
    Generator.waits_for_a_token,
    Generator.takes_a_failure,
    Generator.minds_a_failure,
    Generator.staggers,
    Generator.overloads,
    Generator.overspends,
)
"""Scenes that are drawn as parts of any scheduler."""


MEETINGS = {
    "merges pools": Generator.merges_pools,
    "throttles again": Generator.throttles_again,
    "is late": Generator.is_late,
    "cleans up forever": Generator.cleans_up_forever,
    "learns a duration": Generator.learns_a_duration,
    "drops failures": Generator.drops_failures,
    "goes deep": Generator.goes_deep,
    "retries after trying again": Generator.retries_after_trying_again,
    "tries services again": Generator.tries_services_again,
    "tries what was cancelled": Generator.tries_what_was_cancelled,
    "holds": Generator.holds,
    "pauses as jobs start": Generator.pauses_as_jobs_start,
    "staggers in full": Generator.staggers_in_full,
    "shows life inside": Generator.shows_life_inside,
    "reports late": Generator.reports_late,
    "loses its turn": Generator.loses_its_turn,
    "retries as it ends": Generator.retries_as_it_ends,
    "grows forever": Generator.grows_forever,
    "calls back": Generator.calls_back,
    "pays again": Generator.pays_again,
    "asks in vain": Generator.asks_in_vain,
    "takes groups back": Generator.takes_groups_back,
}


class Variation(Generator):
    """Draws a scenario in which jobs meet across groups and runs: they share a limiter that changes, and clean-up jobs
    need what others wait for."""

    def __init__(self, seed: object, without: Sequence[str] = ()) -> None:
        super().__init__(seed, without, runs_apart=0.3)
        self.focus |= {"group", "limiter"}

    def scenario(self) -> Scenario:
        """Draw a scenario, in which limiters may change."""
        drawn = super().scenario()
        root = drawn.root
        if self.chance(0.6):
            root = self.passes_on(root)
        return replace(drawn, root=root, resizes=tuple(self.resizes()))

    def resizes(self) -> Iterator[tuple[float, int, int]]:
        """Draw changes of the limiters, also to no token at all; most of them are large enough in the end."""
        for number, tokens in enumerate(self.tokens):
            when = 0.0
            for _ in range(self.random.choice((0, 1, 1, 2))):
                when += self.duration(8)
                yield when, number, self.random.randint(0, tokens + 1)
            if when and self.chance(0.8):
                yield when + self.duration(8), number, tokens

    def passes_on(self, root: Group) -> Group:
        """What a clean-up job gives back starts a job of another group, or of another run."""
        pool = self.resource("amount", float(self.random.randint(1, 2)))
        needs = {"needs": ((pool.name, pool.total),)}
        bad = self.actor(
            Fail(), first=6, critical=True, run_if="succeeded", requires=()
        )
        alarm = self.actor(
            first=9,
            **needs | {"run_if": "failed", "requires": (bad.name,), "settled": ()},
        )
        gate = self.actor(first=6)
        jobs = [
            [bad, alarm],
            [gate, self.actor(first=4, **needs, requires=(gate.name,), settled=())],
        ]
        if self.apart:
            runs = [
                replace(run, jobs=(*new, *run.jobs))
                for run, new in zip(root.jobs, jobs, strict=True)
            ]  # type: ignore[call-overload]
            return replace(root, jobs=tuple(runs), pool=(*root.pool, pool))
        options = {
            "forever": False,
            "needs": (),
            "cleanup_timeout": 20.0 + self.duration(),
        }
        groups = [
            Group(**self.common([]) | {"forever": False}, jobs=tuple(new))
            for new in jobs
        ]
        groups[0] = replace(groups[0], critical=False, **options)
        return with_jobs(root, groups, [pool])


def grown(
    drawn: Scenario,
    jobs: Sequence[Leaf | Group],
    pool: Sequence[Resource] = (),
    **changes: Any,
) -> Scenario:
    """Put jobs in front of those of the outermost scheduler, and change other things."""
    return replace(drawn, root=with_jobs(drawn.root, jobs, pool), **changes)


def with_jobs(
    group: Group, jobs: Sequence[Leaf | Group], pool: Sequence[Resource]
) -> Group:
    """Put jobs in front of a scheduler's, and resources into its pool."""
    return replace(group, jobs=(*jobs, *group.jobs), pool=(*group.pool, *pool))


def with_one_add(bodies: tuple[tuple[Step, ...], ...]) -> tuple[tuple[Step, ...], ...]:
    """Let each body that adds jobs add the same ones."""
    adds = [step for step in itertools.chain(*bodies) if isinstance(step, Add)]
    changed: list[tuple[Step, ...]] = []
    for body in bodies:
        changed.append(
            tuple(adds[0] if isinstance(step, Add) else step for step in body)
        )
    return tuple(changed)


def usable_inputs(plan: Plan) -> Iterator[str]:
    """Yield the names in a plan that later plans may have as inputs."""
    if isinstance(plan, Group):
        if plan.forever or plan.enough is not None:
            return
        for inner in plan.jobs:
            yield from usable_inputs(inner)
    elif isinstance(plan, Leaf) and (plan.service or not plan.forever):
        yield plan.name


def may_be_required(plan: Plan) -> bool:
    """Return whether siblings of a job may require it."""
    return not plan.forever or bool(getattr(plan, "service", False))


def scenario_of(
    seed: object,
    without: Sequence[str] = (),
    *,
    varied: bool = False,
    meeting: str = "",
) -> Scenario:
    """Return the scenario of a seed, with a scene of `MEETINGS` if one is named."""
    generator = (Variation if varied else Generator)(seed, without)
    drawn = generator.with_second_of_something(
        generator.tried(generator.steered(generator.scenario()))
    )
    if meeting:
        return generator.with_meeting(drawn, meeting)
    return drawn
