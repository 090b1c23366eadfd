"""Which node is left out because everything fails on it."""

from penstock.engine.decide.sick_nodes import SICK_ITEMS, SICK_NODES, SickNodes


def test_a_node_is_left_out_once_so_many_items_failed_and_another_works_well():
    nodes = SickNodes()
    assert not nodes.hear("a", 10, 9, "ab")
    assert not nodes.hear("b", SICK_ITEMS - 1, SICK_ITEMS - 1, "ab")
    assert nodes.hear("b", 1, 1, "ab")


def test_nobody_is_left_out_while_no_other_is_known_to_be_well():
    nodes = SickNodes()
    assert not nodes.hear("b", SICK_ITEMS, SICK_ITEMS, "ab")
    assert not nodes.hear("a", 1, 0, "ab")
    assert not nodes.hear("b", SICK_ITEMS, SICK_ITEMS, "b")  # it is gone
    assert nodes.hear("b", 1, 1, "ab")


def test_one_that_did_an_item_is_never_left_out():
    nodes = SickNodes()
    assert not nodes.hear("a", 5, 0, "ab")
    assert not nodes.hear("b", 2, 1, "ab")
    assert not nodes.hear("b", 1000, 1000, "ab")


def test_where_it_befalls_more_it_is_the_job():
    nodes, all_of_them = SickNodes(), ["well", *map(str, range(9))]
    nodes.hear("well", 1, 0, all_of_them)
    assert sum(nodes.hear(str(each), SICK_ITEMS, SICK_ITEMS, all_of_them) for each in range(9)) == SICK_NODES
