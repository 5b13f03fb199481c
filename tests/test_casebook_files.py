"""A casebook is read strictly: each mistake is named with its file, entry, field and repair."""

from fractions import Fraction
from pathlib import Path

import pytest

from cnnspec import casebook
from cnnspec.casebook import CasebookError, Example


def book(kind: str, *lines: str, operator: str = "relu", source: str = '"by hand: max(x, 0)"') -> str:
    """Return one entry in TOML."""
    head = [f"[[{kind}]]", 'name = "a"', f'operator = "{operator}"', f"source = {source}"]
    return "\n".join([*head, *lines, ""])


def example(*lines: str, operator: str = "relu", x: str = "[1, -1]", y: str = "[1, 0]") -> str:
    """Return an example in TOML."""
    return book("example", f"input = {x}", f"output = {y}", *lines, operator=operator)


def sourced(source: str) -> str:
    """Return an example in TOML with another source."""
    return book("example", "input = [1]", "output = [1]", source=source)


def path_of(kind: str, layers: str, *lines: str) -> str:
    """Return a sequence or a receptive field in TOML."""
    return "\n".join(
        [f"[[{kind}]]", 'name = "a"', 'source = "by hand: 1"', *lines, f"layers = [{layers}]", ""]
    )


def net_of(name: str, *lines: str) -> str:
    """Return an entry on a built-in network in TOML."""
    head = ["[[network]]", 'name = "a"', 'source = "by hand: 1"', f'network = "{name}"']
    return "\n".join([*head, "input_shape = [1, 3, 64, 64]", *lines, ""])


def graph_of(node: str) -> str:
    """Return a graph of one node in TOML."""
    head = ["[[graph]]", 'name = "a"', 'source = "by hand: 1"', "values = { x = [1] }", "output = [1]"]
    return "\n".join([*head, f'nodes = [{{ node = "n", operator = "relu", {node} }}]', ""])


def write(tmp_path: Path, text: str, head: str = "casebook = 1\n", name: str = "book.toml") -> Path:
    path = tmp_path / name
    path.write_text(head + text, encoding="utf-8")
    return path


CONV = "arguments = { in_channels = 1, out_channels = 1, kernel_size = 1 }"
RELU = '{ operator = "relu" }'
SHAPED = '{ operator = "relu", output_shape = [1] }'
REFUSE = ("input_shape = [1]", 'reason = "x"')
SHELF = '[sources.book]\nauthor = "A. Author"\ntitle = "Book"\n'


def test_numbers_are_exact(tmp_path: Path) -> None:
    (read,) = casebook.load(write(tmp_path, example(x="[1_000, 0.125, -0.0, nan, -inf]")))
    assert isinstance(read, Example)
    thousand, eighth, *special = read.inputs[0]
    assert (thousand, eighth) == (1000, Fraction(1, 8))
    assert [str(value) for value in special] == ["-0.0", "nan", "-inf"]


@pytest.mark.parametrize(
    ("source", "author", "section"),
    [
        ('"by hand: 1 + 1 = 2"', "by hand", "1 + 1 = 2"),
        ('{ from = "book", section = "7" }', "A. Author", "7"),
        ('{ author = "B", title = "C", section = "8" }', "B", "8"),
    ],
)
def test_source(tmp_path: Path, source: str, author: str, section: str) -> None:
    (read,) = casebook.load(write(tmp_path, SHELF + sourced(source)))
    assert (read.source.author, read.source.section) == (author, section)


@pytest.mark.parametrize(
    ("bits", "values"), [(1, "[1, -0.5]"), (2, "[3, 192]"), (8, "[255, 1]"), (9, "[0.5, 257]"), (1, "[inf]")]
)
def test_significand_bits(tmp_path: Path, bits: int, values: str) -> None:
    (read,) = casebook.load(write(tmp_path, example(x=values)))
    assert isinstance(read, Example)
    assert read.significand_bits == bits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no entry: write one of [[example]], [[shape]]"),
        ("[[example", "cannot be read as TOML"),
        ("[[exampel]]\n", "unknown kind 'exampel': did you mean 'example'?"),
        ("[example]\n", "example: write an array of tables, [[example]]"),
        ("sources = 1\n" + example(), "takes author, title, url, not 1"),
        ('[sources.x]\nauthor = "A"\n' + example(), "[sources.x] takes author, title, url"),
        (example() + example(), "example 'a': this name stands twice: rename one"),
        (example().replace("name", "nmae"), "example 1: unknown key 'nmae': did you mean 'name'?"),
        (example().replace('name = "a"\n', ""), "example 1: name is missing"),
        (example().replace('"a"', '""'), "name='': write a string that is not empty"),
        (example().replace("output", "ouput"), "example 'a': unknown key 'ouput': did you mean 'output'?"),
        (example().replace("output = [1, 0]\n", ""), "example 'a': output is missing"),
        (example("weight = [1]"), "example 'a': relu takes no weight here: remove it"),
        (example("inputs = [[1]]"), "example 'a': unknown key 'input'"),
        (example("arguments = 3"), "arguments=3: write a table"),
        (example("digits = -1"), "digits=-1: write an integer of at least 0"),
        (example("digits = true"), "digits=True: write an integer of at least 0"),
        (example("note = 1"), "note=1: write a string that is not empty"),
        (example(operator="rleu"), "operator='rleu': no such operator: did you mean 'relu'?"),
        (example(x="[[1], [2, 3]]"), "inputs=[[[1], [2, 3]]]: write rows of one length"),
        (example(x="[true]"), "inputs=[[True]]: write numbers, in rows of one length"),
        (example(x='["1"]'), "inputs=[['1']]: write numbers, in rows of one length"),
        (example(x="[]"), "inputs=[[]]: write numbers, in rows of one length"),
        (example(x="[0.1]"), "example 'a': 0.1 is no binary fraction: choose another"),
        (example(y="[0.7]"), "example 'a': 0.7 is no binary fraction: choose another"),
        (example(CONV, operator="conv1d"), "weight is missing: give it (or bias = false in arguments)"),
        (example(CONV, "weight = [[[1]]]", operator="conv1d"), "bias is missing: give it"),
        (book("example", "output = [1]"), "example 'a': inputs is missing"),
        (sourced('""'), "source='' is incomplete or has unknown keys; write { from"),
        (sourced('"by hand"'), "source='by hand' is incomplete"),
        (sourced('"me: 1 + 1"'), "source='me: 1 + 1' is incomplete"),
        (sourced('{ author = "A", title = "T" }'), "is incomplete or has unknown keys; write"),
        (sourced('{ author = "A", title = "T", section = "1", page = "2" }'), "has unknown keys"),
        (sourced('{ from = "x", section = "1" }'), "no [sources.x]: known are none"),
        (SHELF + sourced('{ from = "bok", section = "1" }'), "no [sources.bok]: did you mean 'book'?"),
        (example().replace("source", "note"), "example 'a': source is missing; write"),
        (book("shape", "input_shape = [1, -1]", "output_shape = [1]"), "write an integer of at least 0"),
        (book("shape", "input_shape = 1", "output_shape = [1]"), "input_shapes=[1]: write a list of sizes"),
        (book("shape", "input_shapes = []", "output_shape = [1]"), "write a list that is not empty"),
        (book("shape", "input_shape = [1]"), "shape 'a': output_shape is missing"),
        (book("shape", "input = [1]", "output_shape = [1]"), "unknown key 'inputs'"),
        (book("cost"), "cost 'a': states no cost: give parameter_count, macs or another"),
        (book("cost", "macs = 0"), "cost 'a': macs depends on the input: give input_shape"),
        (book("refuse", *REFUSE), "refuse 'a': when is missing"),
        (book("refuse", *REFUSE, 'when = "never"'), 'write "constructed" or "called"'),
        (book("refuse", *REFUSE, CONV, 'when = "constructed"', operator="conv1d"), "give weight_shape"),
        (path_of("sequence", RELU), "sequence 'a': input_shapes is missing"),
        (net_of("resnet19", "macs = 1"), "network='resnet19': no such network: did you mean 'resnet1"),
        (net_of("resnet18"), "network 'a': states nothing: give parameter_count, output_shape, nodes or another"),
        (net_of("resnet18", "giga_macs = 1.8"), "network 'a': giga_macs is rounded: give digits"),
        (net_of("resnet18", "nodes = []"), "nodes=[]: write a list that is not empty"),
        (net_of("resnet18", "nodes = [{ macs = 1 }]"), "network 'a', node 0: node is missing"),
        (net_of("resnet18", 'nodes = [{ node = "fc", width = 1 }]'), "node 0: unknown key 'width'"),
        (graph_of('takes = ["y"]'), "graph 'a': values lacks 'y', which a node takes"),
        (graph_of('takes = ["x"], shared = { weight = 1 }'), "shared={'weight': 1}: write a string that is not"),
        (graph_of("takes = []"), "takes=[]: write a list that is not empty"),
        (path_of("sequence", RELU, "input_shape = [1]"), "the last layer must state its output_shape"),
        (path_of("sequence", "1", "input_shape = [1]"), "layers=[1]: write a table"),
        (path_of("sequence", RELU.replace("}", ", size = 1 }"), "input_shape = [1]"), "layer 0: unknown key"),
        (path_of("sequence", SHAPED, "input_shape = [1]\ngiga_macs = 0.5"), "giga_macs is rounded: give"),
        (path_of("sequence", RELU, "input_shape = [1]\ngiga_macs = 1"), "giga_macs=1: write a decimal"),
        (path_of("receptive_field", RELU), "the last layer must state its size"),
        (path_of("receptive_field", ""), "layers=[]: write a list that is not empty"),
        (path_of("receptive_field", '{ operator = "relu", size = -1 }'), "size=-1: write an integer"),
        (path_of("receptive_field", '{ size = 1 }'), "receptive_field 'a', layer 0: operator is missing"),
    ],
)  # fmt: skip
def test_bad_file(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(CasebookError) as caught:
        casebook.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("head", ["", "casebook = 2\n", 'casebook = "1"\n'])
def test_a_file_names_the_version_of_its_format(tmp_path: Path, head: str) -> None:
    with pytest.raises(CasebookError, match="write casebook = 1 at the top"):
        casebook.load(write(tmp_path, example(), head))


def test_two_files_do_not_share_a_name(tmp_path: Path) -> None:
    write(tmp_path, example())
    write(tmp_path, example(), name="other.toml")
    with pytest.raises(
        CasebookError, match=r"other\.toml: example 'a': .*book\.toml has this name: rename one"
    ):
        casebook.load_all(tmp_path)


def test_expectations_are_no_casebooks(tmp_path: Path) -> None:
    (tmp_path / "expectations").mkdir()
    write(tmp_path / "expectations", "", head="")
    path = write(tmp_path, example())
    assert casebook.find(tmp_path) == (path,)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CasebookError, match=r"none\.toml: cannot be read as TOML"):
        casebook.load(tmp_path / "none.toml")
