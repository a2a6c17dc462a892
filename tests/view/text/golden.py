"""The lines of a listing for each state of a job."""

# Every state, forever (8) or critical (!): the line on a stream that can show all, the line in ASCII, and
# what both say behind it if details are asked for.
GOLDEN = """
idle 8      | 1    · ∞  <Job x> | 1    . 8  <Job x> |
idle !      | 1  ! ·    <Job x> | 1  ! .    <Job x> |
scheduled 8 | 1    ◦ ∞  <Job x> | 1    w 8  <Job x> |
scheduled ! | 1  ! ◦    <Job x> | 1  ! w    <Job x> |
running 8   | 1    ▸ ∞  <Job x> | 1    > 8  <Job x> |
running !   | 1  ! ▸    <Job x> | 1  ! >    <Job x> |
succeeded 8 | 1    ✓ ∞  <Job x> | 1    + 8  <Job x> | -> 42
succeeded ! | 1  ! ✓    <Job x> | 1  ! +    <Job x> | -> 42
failed 8    | 1    ✗ ∞  <Job x> | 1    x 8  <Job x> | !! KeyError: 'k'
failed !    | 1  ! ✗    <Job x> | 1  ! x    <Job x> | !! KeyError: 'k'
cancelled 8 | 1    ⊘ ∞  <Job x> | 1    c 8  <Job x> |
cancelled ! | 1  ! ⊘    <Job x> | 1  ! c    <Job x> |
blocked 8   | 1    ⊗ ∞  <Job x> | 1    b 8  <Job x> | !! KeyError: 'k'
blocked !   | 1  ! ⊗    <Job x> | 1  ! b    <Job x> | !! KeyError: 'k'
skipped 8   | 1    ⤼ ∞  <Job x> | 1    s 8  <Job x> |
skipped !   | 1  ! ⤼    <Job x> | 1  ! s    <Job x> |
"""
LINES = [tuple(part.strip() for part in line.split("|")) for line in GOLDEN.strip().splitlines()]


async def answer() -> int:
    return 42
