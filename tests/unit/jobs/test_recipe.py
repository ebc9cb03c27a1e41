"""A recipe is read, checked and written: every mistake is named with its key and its line."""

import dataclasses
import tomllib

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.errors import RecipeError
from refine_export.jobs import recipe_file
from refine_export.jobs.recipe import Recipe
from refine_export.jobs.recipe_file import (
    chosen_recipe,
    recipe_from_file,
    recipe_from_toml,
    recipe_with,
    toml_from_recipe,
)
from tests.support.refusals import refused


def test_what_init_writes_is_the_embedded_recipe():
    text = toml_from_recipe(Recipe())
    assert recipe_from_toml(text) == Recipe()
    assert recipe_from_toml("") == Recipe()


def test_every_option_is_written_with_its_explanation():
    text = toml_from_recipe(Recipe())
    for section in dataclasses.fields(Recipe):
        assert f"[{section.name}]" in text
        for option in dataclasses.fields(getattr(Recipe(), section.name)):
            if dataclasses.is_dataclass(getattr(getattr(Recipe(), section.name), option.name)):
                continue  # a section of its own
            lines = text.partition(f"[{section.name}]")[2].splitlines()
            index = next(k for k, line in enumerate(lines) if line.lstrip("# ").startswith(f"{option.name} = "))
            assert lines[index - 1].startswith("# "), option.name


def test_a_graphs_old_name_is_accepted():
    """`interpolator_m` is now `interpolator`; nothing but graphs and their limits is renamed."""
    old = '[run]\noutput = "interpolator_m"\ngraphs = ["interpolator_m"]\n[validate.limits]\n'
    limits = "interpolator_m_fp16 = { max_abs = 0.02, psnr_db = 60.0 }\n"
    recipe = recipe_from_toml(old + limits)
    assert (recipe.run.graphs, recipe.run.output) == (("interpolator",), "interpolator_m")
    assert recipe.validate.limits.interpolator_fp16 == Limits(max_abs=0.02, psnr_db=60.0)
    assert chosen_recipe(None, graphs=["interpolator_m"]).run.graphs == ("interpolator",)
    with refused("renamed-option", RecipeError, old="interpolator_m_fp16", option="interpolator_fp16"):
        recipe_from_toml(old + limits + "interpolator_fp16 = { max_abs = 0.01, psnr_db = 75.0 }")


def test_another_recipe_survives_the_round_trip():
    recipe = recipe_from_toml(
        '[run]\ngraphs = ["unet"]\n[checkpoint]\npath = "a \\"b\\".pkl"\n[validate]\ntimesteps = [0.25]\n'
        "[validate.limits]\nunet_fp16 = { max_abs = 0.01, psnr_db = 61.5, ssim = 0.99 }"
    )
    assert recipe_from_toml(toml_from_recipe(recipe)) == recipe
    assert tomllib.loads(toml_from_recipe(recipe))["validate"]["timesteps"] == [0.25]
    assert recipe.validate.limits.unet_fp16 == Limits(max_abs=0.01, psnr_db=61.5, ssim=0.99)
    assert recipe_with(recipe, {"opt_batch": 1}).validate.limits == recipe.validate.limits


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("[export]\nheigth = 4", "unknown-option", "r.toml, line 2: there is no key export.heigth"),
        ("\n[foo]\na = 1", "unknown-option", "r.toml, line 2: there is no section foo"),
        ('[""]\na = 1', "unknown-option", 'r.toml, line 1: there is no section "";'),
        ("[3]\na = 1", "unknown-option", "r.toml, line 1: there is no section 3;"),
        ("[export]\n12 = 1", "unknown-option", "r.toml, line 2: there is no key export.12;"),
        ("run = 3", "wrong-option", "r.toml, line 1: run is 3"),
        ("[export]\n\nsize = '100by64'", "wrong-option", "r.toml, line 3: export: size"),
        ("[export]\ndynamic = 'yes'", "wrong-option", 'r.toml, line 2: export.dynamic is "yes"'),
        ("[validate]\nflows = ['sub']", "wrong-option", 'r.toml, line 2: validate.flows is "sub"'),
        (
            "[validate]\nlimits.refine_fp32.psnr = 3",
            "wrong-option",  # two keys are missing as well
            "r.toml, line 2: there is no key validate.limits.refine_fp32.psnr",
        ),
        ("[checkpoint]\npath = 1979-05-27", "wrong-option", "r.toml, line 2: checkpoint.path is"),
        (
            "[checkpoint]\nweights = 'demo'",
            "wrong-option",
            'line 2: checkpoint.weights is "demo": input should be \'rel',
        ),
        ("[run]\noutput = ''", "wrong-option", "r.toml, line 2: run: output"),
        ("[run]\noutput = 'refine.onnx'", "wrong-option", "r.toml, line 2: run: output"),
        ("x = " + "[" * 3000, "not-a-recipe", "r.toml"),
        ("[export]\nbatch = " + "9" * 5000, "not-a-recipe", "r.toml"),
        ("[run]\n[run]", "not-a-recipe", "r.toml"),
    ],
)
def test_mistakes_are_named_with_their_line(text, code, line):
    with refused(code, RecipeError) as caught:
        recipe_from_toml(text, name="r.toml")
    assert line in str(caught.value)


def test_all_mistakes_are_named_at_once():
    with pytest.raises(RecipeError) as caught:
        recipe_from_toml("[export]\nx = 1\n[run]\ny = 2\n[checkpoint]\nseed = 'a'", name="r.toml")
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "r.toml, line 4",
        "r.toml, line 6",
        "r.toml, line 2",
    ]


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf[export]\r\nbatch = 1\r\n")
    assert recipe_from_file(tmp_path / "bom.toml") == Recipe()


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("", "is-directory"),
        ("absent.toml", "not-found"),
        ("binary.toml", "not-a-recipe"),
        ("large.toml", "not-a-recipe"),
    ],
)
def test_files_that_are_not_recipes(tmp_path, name, code):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.toml").write_bytes(b"#" * 100_000)
    with refused(code, RecipeError):
        recipe_from_file(tmp_path / name)


def test_single_options_win():
    recipe = recipe_from_toml("[export]\ndynamic = true\n[run]\noutput = 'here'")
    assert chosen_recipe(recipe, output="\udcff").run.output == "\udcff"  # a folder whose name is not UTF-8
    changed = chosen_recipe(recipe, size="64x96", graphs=["unet"], batch=None)
    assert (changed.export.dynamic, changed.export.size) == (False, "64x96")
    assert (changed.run.graphs, changed.run.output) == (("unet",), "here")
    assert chosen_recipe(changed, dynamic=True).export == recipe.export
    with refused("wrong-option", RecipeError):
        chosen_recipe(recipe, graphs=["x"])
    with refused("unknown-option", RecipeError):
        chosen_recipe(recipe, graph="unet")


def test_a_renamed_key_says_its_new_name(monkeypatch):
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Renamed:
        output: str = dataclasses.field(default="x", metadata={"formerly": "folder"})

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Section:
        run: Renamed = dataclasses.field(default_factory=Renamed)

    monkeypatch.setattr(recipe_file, "Recipe", Section)
    assert recipe_file._unknown("r.toml", ["run", "folder"], is_section=False)[0] == "renamed-option"
