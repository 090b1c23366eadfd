"""The suites catch what they are for: plug-ins with one fault each must fail, a right one must pass."""

import inspect
import json
from collections.abc import Mapping

import pytest

from penstock import files
from penstock.abc import Part, Receipt, SetAside
from penstock.reducers import Count, Sum
from penstock.sources import Range
from penstock.testing import ReducerSuite, SinkSuite, SourceSuite


def verdicts(suite, tmp_path_factory):
    """Run every test of a suite, as pytest would; the names of those that failed."""
    failed = set()
    for name, test in inspect.getmembers(suite, inspect.ismethod):
        if not name.startswith("test_"):
            continue
        folder = tmp_path_factory.mktemp("suite")
        given = {"tmp_path": folder}
        try:
            if isinstance(suite, SourceSuite):
                given["source"] = suite.make(folder)
                given["whole"] = suite.items(given["source"], 0, len(given["source"]))
            else:
                given |= {"sink": suite.make(), "reducer": suite.make()}
            test(**{key: given[key] for key in inspect.signature(test).parameters})
        except pytest.skip.Exception:
            continue
        except Exception:
            failed.add(name.removeprefix("test_"))
        except pytest.fail.Exception:  # "did not raise"
            failed.add(name.removeprefix("test_"))
    return failed


# ------------------------------------------------------------------ sources


class Good(Range):
    pass


class ReadsOneTooMany(Range):
    def read(self, start, stop):
        return self.numbers[start : stop + 1]


class WrongAfterAnEarlierRead(Range):
    def read(self, start, stop):
        read = list(self.numbers[start:stop])
        if start < self.__dict__.get("last", 0):
            read.reverse()
        self.__dict__["last"] = stop
        return read


class CannotBePickled(Range):
    def __reduce__(self):
        raise TypeError("an open file")


class ForgetsItsOffset(Range):
    def __reduce__(self):
        return ForgetsItsOffset, (range(len(self.numbers)),)


class RandomFingerprint(Range):
    def fingerprint(self):
        return {"range": str(id(object())) + str(id(self))}


class NeverChanges(Range):
    def fingerprint(self):
        return {"range": "always"}


class NamesNothing(Range):
    def fingerprint(self):
        return {}


class TravelsUnweighed(Range):
    def carry(self, start, stop):
        return (start, stop)

    def load(self, start, cargo):
        pass


class TooFewSizes(Range):
    def sizes(self, start, stop):
        return [1] * (stop - start - 1)


class SpansOfOthers(Range):
    def spans(self):
        return {"other": (0, len(self))}


class StartsLate(Range):
    def starts(self):
        return [1, 5]


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        (Good, set()),
        (ReadsOneTooMany, {"gives_the_same_one_by_one", "reads_any_interval_in_any_order"}),
        (WrongAfterAnEarlierRead, {"reads_any_interval_in_any_order"}),
        (CannotBePickled, {"reads_an_interval_after_pickling"}),
        (ForgetsItsOffset, {"reads_an_interval_after_pickling"}),
        (RandomFingerprint, {"fingerprint_is_text_and_stays"}),
        (NeverChanges, {"fingerprint_changes_with_the_content"}),
        (NamesNothing, {"fingerprint_is_text_and_stays"}),
        (TravelsUnweighed, {"cargo_is_weighed_and_all_that_is_pickled"}),
        (TooFewSizes, {"sizes_are_one_for_each_item"}),
        (SpansOfOthers, {"spans_say_where_each_file_is"}),
        (StartsLate, {"starts_are_where_reading_may_begin"}),
    ],
)
def test_the_source_suite_catches(source, caught, tmp_path_factory):
    class Suite(SourceSuite):
        def make(self, folder):
            return source(range(10, 18 + (folder / "changed").exists()))

        def change(self, folder):
            (folder / "changed").touch()
            return True

    failed = verdicts(Suite(), tmp_path_factory)
    assert caught <= failed
    assert bool(caught) == bool(failed)


# ------------------------------------------------------------------ sinks


class Lines:
    """A right sink: one JSON file a grain."""

    grain = 4

    def open(self, folder, items):
        pass

    def write(self, batch, results, folder):
        path = folder / f"lines-{batch.start:05d}.json"
        lines = [None if isinstance(result, SetAside) else result for result in results]
        with files.atomic(path) as draft:
            draft.write_text(json.dumps(lines))
        return Receipt(parts=(Part(path.name, path.stat().st_size, files.digest(path)),))

    def close(self, receipts, folder):
        for _ in receipts:
            pass

    def result(self, folder):
        return [line for path in sorted(folder.glob("lines-*")) for line in json.loads(path.read_text())]


class NamedByTime(Lines):
    count = 0

    def write(self, batch, results, folder):
        NamedByTime.count += 1
        receipt = super().write(batch, results, folder)
        name = f"lines-{NamedByTime.count:05d}.json"
        (folder / receipt.parts[0].name).rename(folder / name)
        return Receipt(parts=(Part(name, receipt.parts[0].bytes, receipt.parts[0].digest),))


class NotAtomic(Lines):
    def write(self, batch, results, folder):
        with open(folder / f"lines-{batch.start:05d}.json", "w") as file:
            file.write("[")
            for number, result in enumerate(results):
                file.write("," * (number > 0) + json.dumps(None if isinstance(result, SetAside) else result))
            file.write("]")
        path = folder / f"lines-{batch.start:05d}.json"
        return Receipt(parts=(Part(path.name, path.stat().st_size, files.digest(path)),))


class SkipsTheSetAside(Lines):
    def write(self, batch, results, folder):
        return super().write(batch, (r for r in results if not isinstance(r, SetAside)), folder)


class ShowsDrafts(Lines):
    def result(self, folder):
        return [line for path in sorted(folder.iterdir()) for line in json.loads(path.read_text())]


class WrongDigest(Lines):
    def write(self, batch, results, folder):
        receipt = super().write(batch, results, folder)
        return Receipt(parts=(Part(receipt.parts[0].name, 1, "0"),))


class KeepsInMemory(Lines):
    kept: list = []  # noqa: RUF012

    def write(self, batch, results, folder):
        self.kept.extend(list(results))
        return Receipt()

    def result(self, folder):
        return self.kept


class WantsAList(Lines):
    def close(self, receipts, folder):
        len(receipts)


class HugeReceipt(Lines):
    def write(self, batch, results, folder):
        receipt = super().write(batch, results, folder)
        return Receipt(receipt.parts, "x" * 100_000)


@pytest.mark.parametrize(
    ("sink", "caught"),
    [
        (Lines, set()),
        (NamedByTime, {"the_same_batch_twice_leaves_the_same", "the_order_of_batches_leaves_no_trace"}),
        (NotAtomic, {"a_failing_batch_leaves_nothing"}),
        (SkipsTheSetAside, {"items_set_aside_have_their_place", "a_whole_batch_may_be_set_aside"}),
        (ShowsDrafts, {"a_stale_draft_never_shows"}),
        (WrongDigest, {"says_truly_what_it_wrote"}),
        (KeepsInMemory, {"the_order_of_batches_leaves_no_trace"}),
        (WantsAList, {"gives_back_what_was_kept"}),
        (HugeReceipt, {"gives_back_what_was_kept"}),
    ],
)
def test_the_sink_suite_catches(sink, caught, tmp_path_factory):
    class Suite(SinkSuite):
        def make(self):
            return sink()

        def result_of(self, item):
            return item * item

        def expected(self, results):
            return [None if isinstance(result, SetAside) else result for result in results]

    failed = verdicts(Suite(), tmp_path_factory)
    assert caught <= failed
    assert bool(caught) == bool(failed)


# ------------------------------------------------------------------ reducers


class FloatsInAnyOrder(Sum):
    def step(self, state, result):
        return (state or 0.0) + result * 0.1

    def finish(self, states):
        return sum(states)


class SharesItsStart(Count):
    shared: Mapping = {}

    def start(self):
        return self.shared


class LastWins(Sum):
    def step(self, state, result):
        return result


class StateOfObjects(Sum):
    def step(self, state, result):
        return {result} if state is None else state | {result}

    def finish(self, states):
        return 0


class ChangesResults(Sum):
    def step(self, state, result):
        result.append(1)
        return


class KeepsOneState(Sum):
    def finish(self, states):
        return len(list(states))


class NeedsAState(Sum):
    def finish(self, states):
        return next(states)


@pytest.mark.parametrize(
    ("reducer", "result", "caught"),
    [
        (Sum, lambda item: item, set()),
        (FloatsInAnyOrder, lambda item: item, {"any_order_gives_the_same"}),
        (SharesItsStart, lambda item: f"{item}", {"starts_afresh"}),
        (LastWins, lambda item: item, {"does_not_depend_on_the_split"}),
        (StateOfObjects, lambda item: item, {"states_survive_the_journal"}),
        (ChangesResults, lambda item: [item] if item else [], {"leaves_results_alone"}),
        (KeepsOneState, lambda item: item, {"does_not_depend_on_the_split"}),
        (NeedsAState, lambda item: item, {"finishes_no_states"}),
    ],
)
def test_the_reducer_suite_catches(reducer, result, caught, tmp_path_factory):
    class Suite(ReducerSuite):
        def make(self):
            return reducer()

        def result_of(self, item):
            return result(item)

    failed = verdicts(Suite(), tmp_path_factory)
    assert caught <= failed
    assert bool(caught) == bool(failed)
