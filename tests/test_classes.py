"""Our ``dataclass`` does as the standard one does, which is asked the same here."""

import copy
import dataclasses
import inspect
import pickle

import pytest

from penstock import classes

MAKERS = (dataclasses.dataclass, classes.dataclass)
OPTIONS = [
    {"eq": eq, "frozen": frozen, "slots": slots, "kw_only": kw_only}
    for eq in (True, False)
    for frozen in (True, False)
    for slots in (True, False)
    for kw_only in (True, False)
]


def pair(options):
    """The same class, made by either."""
    made = []
    for make in MAKERS:

        @make(**options)
        class Point:
            """Has everything that ours have."""

            x: int
            y: int = 2
            tags: list = dataclasses.field(default_factory=list)
            hidden: str = dataclasses.field(default="h", repr=False, compare=False)
            of_hash: int = dataclasses.field(default=1, hash=False)
            known = "of the class"

            def __post_init__(self):
                if self.x < 0:
                    raise ValueError("negative")

            def moved(self):
                return dataclasses.replace(self, x=self.x + 1)

        made.append(Point)
    return made


def outcome(deed, cls):
    """What it gives, or which error with which words."""
    try:
        return deed(cls)
    except Exception as error:
        return type(error), str(error)


def assigned(cls, name):
    point = cls(x=1)
    setattr(point, name, 5)
    return getattr(point, name)


def deleted(cls):
    point = cls(x=1)
    del point.x
    return point.x


DEEDS = {
    "made by name": lambda cls: repr(cls(x=1, tags=[3])),
    "made by place": lambda cls: repr(cls(1, 5)),
    "without a value": lambda cls: cls(),
    "with one too many": lambda cls: cls(x=1, z=2),
    "post-init": lambda cls: cls(x=-1),
    "own list each": lambda cls: cls(x=1).tags is cls(x=1).tags,
    "equal": lambda cls: cls(x=1) == cls(x=1, hidden="other"),
    "other": lambda cls: cls(x=1) == cls(x=2),
    "not a number": lambda cls: cls(x=float("nan")) == cls(x=float("nan")),
    "of another class": lambda cls: cls(x=1) == (1, 2, [], 1),
    "equal hash": lambda cls: hash(cls(x=1, tags=())) == hash(cls(x=1, tags=(), hidden="other", of_hash=7)),
    "hash of a list": lambda cls: isinstance(hash(cls(x=1)), int),
    "hashable": lambda cls: cls.__hash__ is None,
    "assigned": lambda cls: assigned(cls, "x"),
    "deleted": deleted,
    "replaced": lambda cls: repr(cls(x=1, tags=[1]).moved()),
    "as a dict": lambda cls: dataclasses.asdict(cls(x=1)),
    "copied": lambda cls: repr(copy.deepcopy(cls(x=1, tags=[1]))),
    "places": lambda cls: cls.__match_args__,
    "parameters": lambda cls: [(each.name, each.kind) for each in inspect.signature(cls).parameters.values()],
    "annotations": lambda cls: cls.__init__.__annotations__,
    "slots": lambda cls: hasattr(cls(x=1), "__dict__"),
    "names": lambda cls: (cls.__qualname__, cls.__init__.__qualname__, cls.__module__, cls.__doc__),
    "state": lambda cls: cls(x=1).__getstate__(),
}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_does_as_the_standard_one(options):
    theirs, ours = pair(options)
    told = {name: outcome(deed, theirs) for name, deed in DEEDS.items()}
    assert {name: outcome(deed, ours) for name, deed in DEEDS.items()} == told


@pytest.mark.parametrize("slots", [True, False])
def test_a_frozen_one_gets_no_attribute_and_what_derives_from_it_may(slots):
    """With slots the standard one of Python 3.11 raises a TypeError for both."""
    _, ours = pair({"frozen": True, "slots": slots})
    with pytest.raises(dataclasses.FrozenInstanceError, match="'new'"):
        assigned(ours, "new")
    assert assigned(type("Derived", (ours,), {}), "new") == 5


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("slots", [True, False])
def test_one_that_derives_has_its_own_fields_behind_those_of_its_base(frozen, slots):
    made = []
    for make in MAKERS:

        @make(frozen=frozen, slots=slots)
        class Base:
            """A base."""

            a: int
            b: int = 2

        @make(frozen=frozen, slots=slots)
        class Derived(Base):
            """Derives."""

            c: int = 3

            def __repr__(self):
                return f"its own {self.a} {self.b} {self.c}"

        made.append(
            (
                repr(Derived(1)),
                Derived(1) == Derived(1, 2, 3),
                Derived(1) == Base(1),
                outcome(assigned_a, Derived),
            )
        )
    assert made[0] == made[1]
    assert made[0][0] == "its own 1 2 3"


def assigned_a(cls):
    instance = cls(1)
    instance.a = 5
    return instance.a


def test_what_a_class_says_itself_is_kept():
    @classes.dataclass(frozen=True)
    class Odd:
        """Has its own."""

        x: int

        def __eq__(self, other):
            return True

        def __repr__(self):
            return "odd"

    assert Odd(1) == Odd(2)
    assert repr(Odd(1)) == "odd"
    assert hash(Odd(1)) == hash(Odd(1))


def test_what_holds_itself_is_told():
    @classes.dataclass
    class Node:
        """Has a link."""

        link: object = None

    node = Node()
    node.link = node
    assert repr(node).endswith("Node(link=...)")


@classes.dataclass(frozen=True, slots=True)
class Sent:
    """What is pickled is found by its name."""

    x: int
    y: tuple = ()


def test_frozen_ones_with_slots_are_pickled():
    assert pickle.loads(pickle.dumps(Sent(1, (2,)))) == Sent(1, (2,))
