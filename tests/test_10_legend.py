"""Legends in memory, YAML, tags and colour masks."""

import numpy as np
import pytest

from sarseg.errors import InputError
from sarseg.legend import IGNORE, LandClass, Legend

LEGEND = Legend(
    (
        LandClass(code=9, name="open water", color=(0, 0, 255)),
        LandClass(code=2, name="bois d'été", color=(0, 120, 7)),
        LandClass(code=254, name="town", color=(200, 10, 10)),
    )
)


def test_order_is_by_code():
    assert LEGEND.codes == (2, 9, 254)
    assert LEGEND.names[LEGEND.index_of(9)] == "open water"
    with pytest.raises(InputError, match="code 3 is not in the legend"):
        LEGEND.index_of(3)


def test_lookup_knows_only_classes():
    table = LEGEND.lookup()
    assert [table[2], table[9], table[254]] == [0, 1, 2]
    assert all(table[code] == IGNORE for code in range(256) if code not in (2, 9, 254))


def test_file_dict_and_tags_bring_it_back(tmp_path):
    path = tmp_path / "legend.yaml"
    LEGEND.to_file(path)
    assert Legend.from_file(path) == LEGEND
    assert Legend.from_dict(LEGEND.to_dict()) == LEGEND
    assert Legend.from_tags({**LEGEND.tags(), "AREA_OR_POINT": "Area"}, LEGEND.colormap()) == LEGEND
    assert Legend.from_tags({"AREA_OR_POINT": "Area"}, None) is None


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("- {code: 0, name: a, color: [1, 2, 3]}", "not in 1..254"),
        ("- {code: 255, name: a, color: [1, 2, 3]}", "not in 1..254"),
        ("- {code: 1, name: a, color: [1, 2, 300]}", "colour"),
        ("- {code: 1, name: a}", "not code, name and color"),
        ("- {code: x, name: a, color: [1, 2, 3]}", "not code, name and color"),
        ("- {code: 1, name: a, color: [1, 2, 3]}\n  - {code: 1, name: b, color: [1, 2, 4]}", "code 1 stands twice"),
        ("- {code: 1, name: a, color: [1, 2, 3]}\n  - {code: 2, name: a, color: [1, 2, 4]}", "name a stands twice"),
        ("[unclosed", "cannot be read"),
    ],
)
def test_a_wrong_legend_is_named(tmp_path, entries, words):
    path = tmp_path / "legend.yaml"
    path.write_text(f"classes:\n  {entries}\n")
    with pytest.raises(InputError, match=words):
        Legend.from_file(path)


def test_colour_masks_become_codes():
    codes = np.array([[2, 9, 254, 0, 2], [9, 9, 0, 254, 254]], np.uint8)
    rgb = np.zeros((2, 5, 3), np.uint8)
    for one in LEGEND.classes:
        rgb[codes == one.code] = one.color
    assert (LEGEND.codes_from_colors(rgb) == codes).all()
    rgb[1, 3] = (1, 2, 3)
    with pytest.raises(InputError, match=r"colour \(1, 2, 3\) is not in the legend"):
        LEGEND.codes_from_colors(rgb)


def test_codes_without_names_get_distinct_colours():
    legend = Legend.from_codes(range(256))
    assert legend.codes == tuple(range(1, 255))
    assert len({one.color for one in legend.classes}) > 200
