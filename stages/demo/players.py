"""What there is to ask about a scene with instruments: who plays where, when, how loud, and at what pace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from avpipe.stages.demo.instruments import NOTES_PER_SECOND, VOICE
from avpipe.stages.demo.scenes import Actor, Scene

PLACES = ("left", "middle", "right")

_CLEAR_SECONDS = 2.0
"""Who comes in with less between them comes in together; who plays together does so for at least as long."""
_CLEAR_LENGTH = 5.0
"""Smallest difference between how long two play, seconds."""
_CLEAR_RATIO = 1.3
"""Smallest ratio of two levels, and of two paces."""


@dataclass(frozen=True, slots=True)
class Player:
    """One instrument of a scene.

    Attributes:
        name: which instrument.
        place: one of `PLACES`; empty where it is not seen.
        start, end: when it is heard, seconds; both 0 where it is not.
        level: how loud it is while it plays.
        pace: notes a second.
    """

    name: str
    place: str
    start: float
    end: float
    level: float
    pace: float

    @property
    def heard(self) -> bool:
        """Whether it is heard at all."""
        return self.end > self.start

    def comes_before(self, other: Player) -> bool:
        """Whether it comes in before `other`, clearly."""
        return other.start - self.start >= _CLEAR_SECONDS

    def is_louder(self, other: Player) -> bool | None:
        """Whether it is louder; None where they are alike."""
        return _is_more(self.level, other.level)

    def is_more_rhythmic(self, other: Player) -> bool | None:
        """Whether it plays more notes a second; None where they are alike."""
        return _is_more(self.pace, other.pace)

    def plays_longer(self, other: Player) -> bool | None:
        """Whether it is heard for longer; None where they are alike."""
        more = (self.end - self.start) - (other.end - other.start)
        return None if abs(more) < _CLEAR_LENGTH else more > 0

    def plays_with(self, other: Player) -> bool | None:
        """Whether both are heard at once; None where that is so for a moment only."""
        common = min(self.end, other.end) - max(self.start, other.start)
        return None if 0 < common < _CLEAR_SECONDS else common > 0


def _is_more(one: float, other: float) -> bool | None:
    return None if max(one, other) < _CLEAR_RATIO * min(one, other) else one > other


def single(players: Sequence[Player]) -> list[Player]:
    """Those whose name says which one is meant."""
    names = [one.name for one in players]
    return [one for one in players if names.count(one.name) == 1]


class Facts:
    """What there is to ask about a scene.

    Attributes:
        seconds: its length.
        where: `indoor` or `outdoor`.
        voice: whether somebody speaks.
        seen: instruments that are seen, from left to right.
        heard: instruments that are heard, by when they come in.
        hidden: those of `heard` that are not seen.
    """

    def __init__(self, scene: Scene, where: str) -> None:
        """Takes the facts from the scene's description alone."""
        self.seconds, self.where = scene.seconds, where
        self.voice = any(actor.kind == VOICE for actor in scene.actors)
        players = [_player(actor, scene) for actor in scene.actors if actor.kind != VOICE]
        self.seen = sorted((one for one in players if one.place), key=lambda one: PLACES.index(one.place))
        self.heard = sorted((one for one in players if one.heard), key=lambda one: one.start)
        self.hidden = [one for one in self.heard if not one.place]

    def ends(self) -> dict[str, Player]:
        """The `first` instrument that comes in, and the `last` one that comes in and goes; without those in doubt."""
        found = {}
        if self.heard and all(self.heard[0].comes_before(other) for other in self.heard[1:]):
            found["first"] = self.heard[0]
        if self.heard and all(
            other.comes_before(self.heard[-1]) and other.end <= self.heard[-1].end for other in self.heard[:-1]
        ):
            found["last"] = self.heard[-1]
        return found

    def plays_always(self, one: Player) -> bool:
        """Whether it is heard from beginning to end."""
        return (one.start, one.end) == (0.0, self.seconds)

    def beside(self, one: Player) -> dict[str, Player]:
        """The only other instrument `left` of one that is seen, and the only one `right` of it."""
        index = self.seen.index(one)
        sides = {"left": self.seen[:index], "right": self.seen[index + 1 :]}
        return {side: others[0] for side, others in sides.items() if len(others) == 1}


def _player(actor: Actor, scene: Scene) -> Player:
    """An actor's part; each is seen throughout or not at all, and heard in one interval at most."""
    place = PLACES[int(len(PLACES) * actor.body.x / (scene.width / scene.height))] if actor.visible else ""
    start, end = actor.sounding[0] if actor.sounding else (0.0, 0.0)
    return Player(actor.kind, place, start, end, actor.sound.level, actor.sound.pace * NOTES_PER_SECOND[actor.kind])
