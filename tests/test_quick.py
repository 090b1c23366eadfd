"""That quick dataclasses are what the standard library makes of the same class."""

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys
from dataclasses import KW_ONLY, InitVar, field
from typing import ClassVar

import pytest

from penstock import quick

OPTIONS = [
    {"frozen": frozen, "slots": slots, "kw_only": kw_only}
    for frozen in (False, True)
    for slots in (False, True)
    for kw_only in (False, True)
]
CALLS = [
    ((), {"a": 1, "set": "x"}), ((), {"a": 1, "set": "y"}), ((), {"a": 1, "set": "x", "made": [2]}),
    ((1, "x"), {}), ((1, "x", [2]), {"hidden": 3}), ((1,), {}), ((), {}), ((1, "x", [2], 3, 4, 5, 6), {}),
    ((1, "x"), {"no": 1}), ((1, "x"), {"a": 2}), ((1, "x"), {"late": 7}), ((float("nan"), "x"), {}),
    (([], "x"), {}),
]  # fmt: skip


def make(dataclass, options):
    """A class with fields of every kind, and one below it."""

    @dataclass(**options)
    class Base:
        """Above."""

        a: float
        set: str
        made: list[int] = field(default_factory=list)
        hidden: object = field(default=None, repr=False, compare=False)
        kind: ClassVar[str] = "kind"

        def __post_init__(self):
            object.__setattr__(self, "counted", len(self.made))

        counted: int = field(init=False, default=0)

    @dataclass(**options)
    class Below(Base):
        """Below."""

        _: KW_ONLY
        late: int = 5
        fresh: dict[str, int] = field(init=False, default_factory=dict)

        def __repr__(self):
            return f"own {self.late}"

    return Base, Below


def told(function):
    """What comes of a call: its value, or its error in words."""
    try:
        return function()
    except Exception as error:
        return type(error), str(error)


@pytest.mark.parametrize("below", [0, 1], ids=["alone", "inherited"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_does_what_the_standard_library_s_does(options, below):
    seen = []
    for dataclass in (dataclasses.dataclass, quick.dataclass):
        cls = make(dataclass, options)[below]
        made = [told(lambda call=call, cls=cls: cls(*call[0], **call[1])) for call in CALLS]
        good = [each for each in made if isinstance(each, cls)]
        assert len(good) > 2
        changed = [told(lambda one=one: dataclasses.replace(one, set="z")) for one in good]
        seen.append([
            list(map(repr, made)), [repr(each) for each in changed],
            [[one == other for other in good] for one in good], good[0].__eq__("other"),
            [[one == copy.copy(other) for other in good] for one in good],
            [told(lambda one=one: hash(one)) for one in good],
            [told(lambda one=one: setattr(one, "a", 3)) for one in good], repr(good),
            [told(lambda one=one: delattr(one, "a")) for one in good[1:]],
            isinstance(told(lambda good=good: setattr(good[0], "new", 3)), tuple),
            [str(each) for each in inspect.signature(cls).parameters.values()],
            [(each.name, each.type, each.kw_only, each.init) for each in dataclasses.fields(cls)],
            cls.__match_args__, cls.__qualname__, cls.__doc__, cls.kind, hasattr(good[0], "__dict__"),
            told(lambda good=good: dataclasses.asdict(good[-1])),
            cls.__dataclass_params__.frozen, cls.__base__.__name__,
        ])  # fmt: skip
    for theirs, ours in zip(*seen, strict=True):
        assert str(ours).replace("Options", "") == str(theirs)


@quick.dataclass(frozen=True, slots=True)
class Frozen:
    """Pickled."""

    a: int
    b: tuple[int, ...] = ()


@quick.dataclass(slots=True)
class Open:
    """Pickled."""

    a: int


@pytest.mark.parametrize("one", [Frozen(1), Frozen(1, (2, 3)), Open(4)], ids=repr)
def test_it_is_pickled_and_copied(one):
    assert pickle.loads(pickle.dumps(one)) == one
    assert copy.deepcopy(one) == one


def test_a_class_of_the_standard_library_may_inherit():
    @dataclasses.dataclass(frozen=True)
    class More(Frozen):
        c: int = 2

    assert More(1, c=3) == More(1, (), 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        More(1).c = 2
    with pytest.raises(TypeError, match="frozen"):
        dataclasses.dataclass(type("Thawed", (Frozen,), {}))
    with pytest.raises(TypeError, match="must all be frozen, or none"):
        quick.dataclass(type("Thawed", (Frozen,), {}))
    assert Frozen.__dataclass_params__.frozen


def test_a_class_may_say_when_it_is_equal():
    @quick.dataclass(frozen=True)
    class Named:
        name: str

        def __eq__(self, other):
            return self.name.lower() == other.name.lower()

    assert Named("A") == Named("a")
    assert hash(Named("A")) == hash(("A",))


def test_what_it_cannot_do_is_left_to_the_standard_library():
    @quick.dataclass(order=True)
    class Ordered:
        a: int
        b: InitVar[int] = 3

        def __post_init__(self, b):
            self.a += b

    assert Ordered(1) < Ordered(2)

    @quick.dataclass
    class Given:
        a: int
        b: InitVar[int] = 3

        def __post_init__(self, b):
            self.a += b

    assert Given(1, 5).a == 6


def test_the_classes_that_each_start_imports_are_quick():
    program = (
        "import dataclasses, sys\n"
        "from penstock import quick\n"
        "import penstock.pool.service, penstock.events, penstock.backends.local\n"
        "ours = [module for name, module in list(sys.modules.items()) if name.startswith('penstock')]\n"
        "classes = {each for module in ours for each in vars(module).values() if isinstance(each, type)}\n"
        "every = list(filter(dataclasses.is_dataclass, classes))\n"
        "slow = [each for each in every if '__eq__' in vars(each) and each.__eq__ is not quick._eq]\n"
        "assert len(every) > 80\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
