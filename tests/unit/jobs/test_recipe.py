"""A recipe is read, checked and written: every mistake is named with its key and its line."""

import dataclasses
import tomllib

import pytest

from refine_export.accuracy.limits import Limits
from refine_export.errors import RecipeError
from refine_export.jobs.recipe import Recipe, recipe_from_file, recipe_from_toml, recipe_with, toml_from_recipe


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
    ("text", "message"),
    [
        ("[export]\nheigth = 4", r"r\.toml, line 2: there is no key export\.heigth; expected one of: dynamic, batch"),
        ("\n[foo]\na = 1", r"r\.toml, line 2: there is no section foo; expected one of: run, checkpoint"),
        ("x = 1", r"r\.toml, line 1: there is no section x"),
        ("run = 3", r"r\.toml, line 1: run is 3"),
        ("[export]\n\nsize = '100x64'", r"line 3: export: size is '100x64'; expected multiples of 32, such as 96x64"),
        ("[export]\ndynamic = 'yes'", r'line 2: export\.dynamic is "yes": input should be a valid boolean'),
        ("[export]\nbatch = 1.5", r"line 2: export\.batch is 1\.5: input should be a valid integer"),
        ("[validate]\nflows = ['sub']", r"line 2: validate\.flows is \"sub\": input should be 'network', 'subpixel'"),
        ("[validate]\nshare = nan", r"line 2: validate: share is nan"),
        ("[validate.limits]\nrefine_fp32 = { max_abs = 1, psnr_db = 9 }", r"line 2: validate: max_abs is 1"),
        ("[validate.limits]\nrefine_fp32 = { max_abs = 0.1 }", r"line 2: validate\.limits\.refine_fp32\.psnr_db is"),
        (
            "[validate.limits]\n\nrefine = { max_abs = 0.1 }",
            r"line 3: there is no key validate\.limits\.refine; expected",
        ),
        (
            "[validate]\nlimits.refine_fp32.psnr = 3",
            r"no key validate\.limits\.refine_fp32\.psnr; expected one of: max_abs",
        ),
        ("[run]\ngraphs = ['x']", r"line 2: run\.graphs is \"x\": input should be 'contextnet'"),
        ("[checkpoint]\nseed = -1", r"line 2: checkpoint: seed is -1"),
        ("[checkpoint]\npath = 1979-05-27", r"line 2: checkpoint\.path is .*: input should be a valid string"),
        ("[frames]\npair = ['a']", r"line 2: frames: pair has 1 files"),
        ("export.batch = 0", r"line 1: export: batch is 0"),
        ("[scene]\nwidth = 3", r"line 2: scene: width"),
        ("[scene]\nheight = 1000000000000", r"line 2: scene: height .* at most 16384"),
        ("[run]\noutput = ''", r"line 2: run: output is empty"),
        ("x = " + "[" * 300 + "]" * 300, r"r\.toml"),
        ("x = " + "[" * 3000, r"r\.toml is no TOML"),
        ("[export]\nbatch = " + "9" * 5000, r"r\.toml is no TOML"),
        ("a = [", r"r\.toml is no TOML: .*line|end of document"),
        ("[run]\n[run]", r"is no TOML"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(RecipeError, match=message):
        recipe_from_toml(text, name="r.toml")


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


def test_files_that_are_none(tmp_path):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large.toml").write_bytes(b"#" * 100_000)
    for name, message in (
        ("", "is a directory"),
        ("absent.toml", "init .*absent.toml"),
        ("binary.toml", "is no text"),
        ("large.toml", "at most 65536"),
    ):
        with pytest.raises(RecipeError, match=message):
            recipe_from_file(tmp_path / name)


def test_the_command_line_wins():
    recipe = recipe_from_toml("[export]\ndynamic = true\n[run]\noutput = 'here'")
    changed = recipe_with(recipe, {"dynamic": False, "size": "64x96", "graphs": ["unet"]})
    assert (changed.export.size, changed.run.graphs, changed.run.output) == ("64x96", ("unet",), "here")
    with pytest.raises(RecipeError, match="the command line: run.graphs"):
        recipe_with(recipe, {"graphs": ["x"]})
