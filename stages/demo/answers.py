"""What can be asked about a scene with instruments, template by template, and the answers.

A question is asked only where its answer leaves no doubt: not which of two instruments comes in first that begin
together, nor how many "did not sound from beginning to end" where one sounds in a part of the video. Where a template
leaves a choice, this is our reading: louder is a higher level while playing, more rhythmic is more notes a second,
playing longer is more seconds; the last instrument is the last that comes in and the last that is heard.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import permutations

from avpipe.stages.demo.instruments import INSTRUMENTS
from avpipe.stages.demo.players import Facts, Player, single

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDER = ("first", "second", "third", "fourth", "fifth")

Case = tuple[tuple[str, ...], str]
"""Values of the placeholders, in order, and the answer."""
Compare = Callable[[Player, Player], bool | None]


def yes(truth: bool) -> str:
    """The answer to a question of yes or no."""
    return "yes" if truth else "no"


def names(players: Iterable[Player]) -> list[str]:
    """Which instruments they are; twice where there are two of a kind."""
    return [one.name for one in players]


def plain(answer: str, *, clear: bool = True) -> list[Case]:
    """A question without placeholders, where it is `clear` enough to be asked."""
    return [((), answer)] if clear else []


def number(things: Collection[object], *, clear: bool = True) -> list[Case]:
    """How many of these there are."""
    return plain(NUMBERS[len(things)], clear=clear)


def each(present: Sequence[str]) -> list[Case]:
    """Is there a ...: of every instrument."""
    return [((name,), yes(name in present)) for name in INSTRUMENTS]


def both(present: Sequence[str]) -> list[Case]:
    """Are there ... and ...: of every two instruments."""
    return [(pair, yes({*pair} <= {*present})) for pair in permutations(INSTRUMENTS, 2)]


def pairs(players: Sequence[Player], more: Compare, *fields: str) -> list[Case]:
    """Is one more than another: of every two players, told by `fields`."""
    return [
        (tuple(getattr(player, field) for player in (one, other) for field in fields), yes(truth))
        for one, other in permutations(players, 2)
        if (truth := more(one, other)) is not None
    ]


def named(facts: Facts) -> list[Player]:
    """Those heard whose name says which one is meant."""
    return single(facts.heard)


def playing(facts: Facts) -> list[Player]:
    """Those both seen and heard."""
    return [one for one in facts.seen if one.heard]


def how_many_seen(facts: Facts) -> list[Case]:
    """How many ... are in the video."""
    return [((name,), NUMBERS[names(facts.seen).count(name)]) for name in INSTRUMENTS]


def how_many_playing(facts: Facts) -> list[Case]:
    """How many sounding ... are in the video: of what is not heard from off screen as well."""
    counted = names(playing(facts))
    return [((name,), NUMBERS[counted.count(name)]) for name in INSTRUMENTS if name not in names(facts.hidden)]


def silent(facts: Facts) -> list[Case]:
    """How many in the video did not sound from beginning to end: where each plays always or never."""
    clear = all(not one.heard or facts.plays_always(one) for one in facts.seen)
    return number([one for one in facts.seen if not one.heard], clear=clear)


def side_of(facts: Facts) -> list[Case]:
    """What is left or right of ..."""
    return [((side, one.name), it.name) for one in single(facts.seen) for side, it in facts.beside(one).items()]


def outermost(facts: Facts) -> list[Case]:
    """What is the leftest or rightest."""
    ends = {"leftest": facts.seen[0], "rightest": facts.seen[-1]} if len(facts.seen) > 1 else {}
    return [((end,), one.name) for end, one in ends.items()]


def always(facts: Facts) -> list[Case]:
    """Is ... always playing: of those seen."""
    known = single([*facts.seen, *facts.hidden])
    return [((one.name,), yes(facts.plays_always(one))) for one in known if one.place]


def is_source(facts: Facts) -> list[Case]:
    """Is this sound from the instrument in the video: where there is one instrument and one sound."""
    clear = len(facts.seen) == len(facts.heard) == 1 and not facts.voice
    return plain(yes(not facts.hidden), clear=clear)


def from_place(facts: Facts) -> list[Case]:
    """Is the first or last sound coming from there; a voice would be a sound as well."""
    ends = {} if facts.voice else facts.ends()
    return [((end, it.place), yes(it is one)) for end, one in ends.items() for it in facts.seen]


def neighbour(facts: Facts) -> list[Case]:
    """What is left or right of the first or last that sounds."""
    ends = {end: one for end, one in facts.ends().items() if one.place}
    return [((side, end), it.name) for end, one in ends.items() for side, it in facts.beside(one).items()]


def loudest(facts: Facts) -> list[Case]:
    """Where is the loudest of several."""
    if len(facts.heard) < 2:
        return []
    louder = [one for one in playing(facts) if all(one.is_louder(it) for it in facts.heard if it is not one)]
    return [(("loudest",), one.place) for one in louder]


def together(facts: Facts) -> list[Case]:
    """What sounds at the same time as ...: where it is one kind of instrument, and not for a moment only."""
    cases: list[Case] = []
    for one in named(facts):
        others = [other for other in facts.heard if other is not one]
        found = {other.name for other in others if one.plays_with(other)}
        if len(found) == 1 and all(one.plays_with(other) is not None for other in others):
            cases.append(((one.name,), found.pop()))
    return cases


def comes_in(facts: Facts) -> list[Case]:
    """What is the first, second, ... that comes in."""
    clear = all(one.comes_before(other) for one, other in zip(facts.heard, facts.heard[1:], strict=False))
    return [((nth,), one.name) for nth, one in zip(_ORDER, facts.heard, strict=False) if clear]


def where_end(facts: Facts) -> list[Case]:
    """Where is the first or last that sounds."""
    return [((end,), one.place) for end, one in facts.ends().items() if one.place]


def which_first(facts: Facts) -> list[Case]:
    """Which ... makes the sound first: of an instrument that is seen twice or more, and heard from each."""
    cases: list[Case] = []
    for name in sorted({*names(facts.seen)} - {*names(facts.hidden)}):
        alike = sorted((one for one in facts.seen if one.name == name), key=lambda one: one.start)
        if len(alike) > 1 and all(one.heard for one in alike):
            if alike[0].start == alike[-1].start:
                cases.append(((name, "first"), "simultaneously"))
            elif alike[0].comes_before(alike[1]):
                cases.append(((name, "first"), alike[0].place))
    return cases


def before_after(facts: Facts) -> list[Case]:
    """What makes sounds before or after ...: where it is one instrument."""
    cases: list[Case] = []
    for one in named(facts):
        before = [other for other in facts.heard if other.comes_before(one)]
        after = [other for other in facts.heard if one.comes_before(other)]
        if len(before) + 1 + len(after) == len(facts.heard):
            cases += [(("before", one.name), it.name) for it in before if len(before) == 1]
            cases += [(("after", one.name), it.name) for it in after if len(after) == 1]
    return cases
