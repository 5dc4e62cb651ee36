"""The rules of the house: who may import whom, what level 1 does without, and that `import numpy` stays NumPy."""

import ast
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import vae_lowlevel
import vae_numpy
import vae_paper
from comparison import random_params

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("numpy", "pytorch_lowlevel", "paper")
FILES = {floor: sorted((ROOT / floor).rglob("*.py")) for floor in FLOORS}


def module_name(path):
    """What one imports: "trainer", "reproductions.kingma_fig2", for a folder's __init__.py the folder."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(part for part in parts if part != "__init__")


def room(path):
    """The top name of what one imports, which the files of a folder share."""
    return module_name(path).partition(".")[0]


MODULES = {floor: {room(path) for path in paths} for floor, paths in FILES.items()}
MODELS = {"vae_numpy", "vae_lowlevel", "vae_paper"}


def parse(path):
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imported_modules(nodes):
    """The full names of the modules that the import statements among `nodes` ask for."""
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import, but the folders are not packages"
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imports(path):
    """The top names of everything a file imports, inside its functions too."""
    return {name.split(".")[0] for name in imported_modules(ast.walk(parse(path)))}


def top_level_imports(path):
    """The top names of what a file imports as soon as it is imported: whatever is not inside a function."""
    pending, reached = [parse(path)], []
    while pending:
        node = pending.pop()
        reached.append(node)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            pending += ast.iter_child_nodes(node)
    return {name.split(".")[0] for name in imported_modules(reached)}


def run_python(*arguments, cwd=ROOT):
    result = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


# --- Arrows point down -----------------------------------------------------------------------------------------------


def test_the_three_levels_are_there():
    assert [path.name for floor in FLOORS for path in FILES[floor] if path.stem in MODELS] == [
        "vae_numpy.py",
        "vae_lowlevel.py",
        "vae_paper.py",
    ]


@pytest.mark.parametrize("path", FILES["numpy"], ids=lambda path: path.name)
def test_floor_1_stands_on_its_own(path):
    upstairs = MODULES["pytorch_lowlevel"] | MODULES["paper"]
    assert not imports(path) & upstairs
    assert not top_level_imports(path) & {"torch", "torchvision", "sklearn"}
    assert "torch" not in imports(path)


@pytest.mark.parametrize("path", FILES["pytorch_lowlevel"], ids=lambda path: path.name)
def test_floor_2_imports_nothing_from_floor_3(path):
    assert not imports(path) & MODULES["paper"]


@pytest.mark.parametrize("path", [path for floor in FLOORS for path in FILES[floor]], ids=lambda path: path.name)
def test_no_level_imports_the_model_of_another(path):
    floor = path.relative_to(ROOT).parts[0]
    assert not imports(path) & (MODELS - MODULES[floor])


ROOMS = [  # of the paper level, from the ground upwards; a room uses those of the lines above its own
    {"processes", "trainable"},
    {"schedules", "pictures", "resume"},
    {"trainer", "training_images"},
    {"experiment"},
    {"vae_paper", "vq_vae"},
    {"iwae", "beta_tcvae", "factor_vae"},
    {"likelihood"},
    {"disentanglement"},
    {"reproduction"},
    {"reproductions"},  # a folder: a section of a paper in each file
    {"results_page"},
    {"reproduce"},
]


@pytest.mark.parametrize("path", FILES["paper"], ids=lambda path: path.name)
def test_arrows_within_the_paper_level_point_down(path):
    """`import itself`, so that a script's classes are those that others import, is no arrow."""
    [storey] = [i for i, rooms in enumerate(ROOMS) if room(path) in rooms]
    assert (imports(path) & MODULES["paper"]) - {room(path)} <= set().union(*ROOMS[:storey])


def test_nothing_in_the_house_imports_the_roof():
    roof = {path.stem for path in (ROOT / "tests").glob("*.py")} | {"tests", "exercises"}
    for paths in FILES.values():
        for path in paths:
            assert not imports(path) & roof, path


def test_level_1_is_written_with_numpy_alone():
    path = ROOT / "numpy" / "vae_numpy.py"
    house = {"numpy", *MODULES["numpy"]}
    assert top_level_imports(path) - sys.stdlib_module_names <= house
    for module in top_level_imports(path) & MODULES["numpy"]:  # they bring nothing else along
        assert top_level_imports(ROOT / "numpy" / f"{module}.py") - sys.stdlib_module_names <= house
    # Anywhere in the file: its script reads images, and weights.
    assert imports(path) - sys.stdlib_module_names <= {"numpy", "safetensors", "matplotlib", *MODULES["numpy"]}


def test_level_2_has_no_modules_and_no_layers():
    """Of torch.nn only torch.nn.functional: parameters are a dict and layers are functions."""
    tree = parse(ROOT / "pytorch_lowlevel" / "vae_lowlevel.py")
    names = {name for name in imported_modules(ast.walk(tree)) if name.split(".")[:2] == ["torch", "nn"]}
    assert names == {"torch.nn.functional"}
    attributes = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not {name for name in attributes if name.startswith(("torch.nn", "nn."))}
    assert not {name for name in attributes if name.endswith((".Module", ".Parameter", ".Sequential"))}
    assert not {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    assert {"F.conv2d", "F.linear", "F.conv_transpose2d"} <= attributes


# Importing fails as on a machine where PyTorch was never installed, which `sys.modules["torch"] = None` is not: SciPy
# looks the name up in sys.modules.
WITHOUT_TORCH = """
import sys

class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
try:
    import torch
except ModuleNotFoundError:
    import vae_numpy
    vae_numpy.main(sys.argv[1:])
"""


def test_level_1_runs_without_pytorch(tmp_path):
    """The whole script: images, weights from a file, report and pictures."""
    vae_numpy.save_weights(tmp_path / "model.safetensors", random_params(0, 3, np.float32))
    arguments = ("--weights", tmp_path / "model.safetensors", "--out", tmp_path / "pictures")
    report = run_python("-W", "error", "-c", WITHOUT_TORCH, *arguments, cwd=tmp_path)
    assert "-ELBO" in report
    assert {path.name for path in (tmp_path / "pictures").glob("*.png")} == {"reconstructions.png", "samples.png"}


# --- One contract, three times ---------------------------------------------------------------------------------------

CONTRACT = {
    "init_params": ["seed", "latent_dim", "dtype"],
    "encode": ["params", "x"],
    "reparameterize": ["mu", "logvar", "eps"],
    "decode": ["params", "z"],
    "kl_divergence": ["mu", "logvar"],
    "reconstruction_nll": ["logits", "x"],
    "forward": ["params", "x", "eps"],
    "elbo": ["params", "x", "eps", "beta"],
    "sample": ["params", "z"],
    "save_weights": ["path", "params"],
    "load_weights": ["path"],
}


def functions_in_order(body):
    """The functions of the contract that are defined in a module's or a class's body, from top to bottom."""
    return [node.name for node in body if isinstance(node, ast.FunctionDef) and node.name in CONTRACT]


def test_levels_1_and_2_define_the_same_functions_in_the_same_order():
    assert functions_in_order(parse(ROOT / "numpy" / "vae_numpy.py").body) == list(CONTRACT)
    assert functions_in_order(parse(ROOT / "pytorch_lowlevel" / "vae_lowlevel.py").body) == list(CONTRACT)


def test_level_3_has_them_as_methods_in_the_same_order():
    """Along the classes that VAE is built from: the networks' part first, then the two terms, then the bound."""
    classes = {
        node.name: node for node in parse(ROOT / "paper" / "vae_paper.py").body if isinstance(node, ast.ClassDef)
    }
    lineage = [base.__name__ for base in reversed(vae_paper.VAE.__mro__) if base.__name__ in classes]
    assert lineage == ["EncoderDecoder", "BaseVAE", "VAE"]
    found = [functions_in_order(classes[name].body) for name in lineage]
    in_the_contract = [name for name in CONTRACT if name not in ("init_params", "save_weights", "load_weights")]
    assert sorted(name for names in found for name in names) == sorted(in_the_contract)  # each is written once
    for names in found:
        assert names == [name for name in in_the_contract if name in names]
    assert found[-1] == []  # a VAE of our own adds an objective to them, and redefines none


@pytest.mark.parametrize("name", CONTRACT)
def test_the_arguments_have_the_same_names_and_order(name):
    first, second = (inspect.signature(getattr(level, name)).parameters for level in (vae_numpy, vae_lowlevel))
    assert list(first) == list(second) == CONTRACT[name]
    defaults = {key: parameter.default for key, parameter in first.items() if key != "dtype"}
    assert defaults == {key: parameter.default for key, parameter in second.items() if key != "dtype"}
    if name != "init_params":
        third = list(inspect.signature(getattr(vae_paper.VAE, name)).parameters)
        shared = [argument for argument in CONTRACT[name] if argument != "params"]
        assert third[: len(shared) + 1] == ["self", *shared]
        assert third[len(shared) + 1 :] in ([], ["c"])  # the class label of the conditional model comes last


# --- The folder called numpy/ ----------------------------------------------------------------------------------------

REAL_NUMPY = Path(np.__file__)
ASK = "import numpy; print(numpy.ndarray.__name__, numpy.__file__)"
ASK_A_WORKER = """
import multiprocessing
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.apply(eval, ("__import__('numpy').ndarray.__name__ + ' ' + __import__('numpy').__file__",)))
"""
ASK_IN_A_TEST = """
import numpy

def test_numpy():
    print("asked:", numpy.ndarray.__name__, numpy.__file__)
"""


def test_numpy_is_numpy_here():
    assert {"site-packages", "dist-packages"} & set(REAL_NUMPY.parts)
    assert REAL_NUMPY.parent != ROOT / "numpy"


@pytest.mark.parametrize("folder", [".", *FLOORS, "tests"])
def test_numpy_is_numpy_from_any_folder(folder):
    """`python -c` puts the current folder first on sys.path."""
    assert run_python("-c", ASK, cwd=ROOT / folder).split() == ["ndarray", str(REAL_NUMPY)]


@pytest.mark.parametrize("folder", [".", "numpy"])
def test_numpy_is_numpy_in_a_spawned_worker(folder):
    assert run_python("-c", ASK_A_WORKER, cwd=ROOT / folder).split() == ["ndarray", str(REAL_NUMPY)]


def test_numpy_is_numpy_under_python_m_pytest(tmp_path):
    """`python -m pytest` puts the repository's root first on sys.path."""
    test = tmp_path / "test_which_numpy.py"
    test.write_text(ASK_IN_A_TEST)
    output = run_python("-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", tmp_path, test)
    assert f"asked: ndarray {REAL_NUMPY}" in output


def test_numpy_is_no_package_and_holds_no_tests():
    """An __init__.py would make the folder hide the real NumPy; a test in it would put the folder's parent first."""
    names = {path.name for path in (ROOT / "numpy").rglob("*")}
    assert "__init__.py" not in names
    assert "conftest.py" not in names
    assert not {name for name in names if name.startswith("test_") or name.endswith("_test.py")}


def test_git_tracks_no_init_file_in_numpy():
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    tracked = subprocess.run(["git", "ls-files", "numpy"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "numpy/vae_numpy.py" in tracked
    assert "__init__.py" not in tracked


def test_module_names_are_unique_and_not_python_s_own():
    names = [path.stem for paths in FILES.values() for path in paths]
    assert len(names) == len(set(names))
    # A script's folder comes first on sys.path: a random.py there would be everybody's random.
    assert not set(names) & sys.stdlib_module_names
    installed = {
        "numpy",
        "torch",
        "torchvision",
        "sklearn",
        "scipy",
        "matplotlib",
        "safetensors",
        "tqdm",
        "tyro",
        "PIL",
    }
    assert not set(names) & installed
    assert not {name for name in names if name.startswith("test_")}


@pytest.mark.parametrize("module", sorted(module_name(path) for paths in FILES.values() for path in paths))
def test_every_module_is_found_from_anywhere(module, tmp_path):
    """Without a change of sys.path: the editable install names the three folders once."""
    found = run_python("-c", f"import importlib.util as u; print(u.find_spec({module!r}).origin)", cwd=tmp_path).strip()
    [path] = [path for paths in FILES.values() for path in paths if module_name(path) == module]
    assert Path(found) == path
    assert "sys.path" not in {ast.unparse(node) for node in ast.walk(parse(path)) if isinstance(node, ast.Attribute)}
