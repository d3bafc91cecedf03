from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isost import __version__
from isost._core.folder import check_target

if TYPE_CHECKING:
    from anndata import AnnData

_READING = ("section_key", "spatial_key", "depth_key", "use_rep")
_LARGE = 2 * 2**30  # bytes of a file whose expression is read in blocks
_FAILED = 2
_INTERRUPTED = 130

_DESCRIPTION = "From a stack of spatial transcriptomics sections to a continuous 3D transcriptome."

_RUN = """\
Reconstruct the volume between the sections of an AnnData file and write it as a SpatialData zarr.

STACK.h5ad holds one row a cell or spot: X counts or log-normalised expression, obsm["spatial"] with
x, y, z (or x, y and a column of depths, see --depth-key). Sections are told by --section-key, or by
their depths where there is no such column. An embedding is made where there is none."""

_RUN_EXAMPLES = """\
examples:
  isost run stack.h5ad volume.zarr
  isost run stack.h5ad volume.zarr --voxel-size 25 --genes Gad1,Slc17a6 --save-model model
  isost run stack.h5ad volume.zarr --resume

exit status: 0 done, 2 an error (said on standard error), 130 interrupted."""

_DEMO = """\
Reconstruct a phantom, a made tissue that is known at every depth, and compare with simple methods on
sections that were held out. Needs no data and takes a few minutes on two cores."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status is 0, 2 for an error, 130 for Ctrl-C."""
    parser = _parser()
    args = parser.parse_args(argv)
    # zarr announces a default of its next release once for each array that spatialdata writes.
    warnings.filterwarnings("ignore", "zarr v3 autosharding", UserWarning)
    try:
        if args.command == "run":
            _run(args)
        else:
            _demo(args)
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, MemoryError) as error:
        if args.traceback:
            raise
        print(f"isost: error: {_message(error)}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        print("isost: interrupted", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="isost", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"isost {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--seed", type=int, default=0, help="seed of every random draw (default: 0)")
    common.add_argument("--traceback", action="store_true", help="on an error, show where it comes from")
    raw = argparse.RawDescriptionHelpFormatter
    _add_run(commands.add_parser("run", parents=[common], help="reconstruct a stack", formatter_class=raw))
    _add_demo(commands.add_parser("demo", parents=[common], help="reconstruct a phantom", formatter_class=raw))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.epilog = _RUN, _RUN_EXAMPLES
    parser.add_argument("stack", type=Path, metavar="STACK.h5ad", help="the sections")
    parser.add_argument("out", type=Path, metavar="OUT.zarr", help="where to write; must not exist")
    parser.add_argument(
        "--voxel-size",
        type=float,
        metavar="EDGE",
        help="edge of a voxel in the unit of the coordinates (default: chosen from distances of cells and memory)",
    )
    parser.add_argument(
        "--genes",
        type=lambda text: [gene.strip() for gene in text.split(",") if gene.strip()],
        metavar="A,B,...",
        help="genes to write as channels (default: principal components, from which any gene can be decoded)",
    )
    parser.add_argument("--section-key", default="section", help="column of obs that names sections (default: section)")
    parser.add_argument(
        "--spatial-key", default="spatial", help="entry of obsm with the coordinates (default: spatial)"
    )
    parser.add_argument("--depth-key", help="column of obs with depths (default: the third coordinate)")
    parser.add_argument("--use-rep", default="X_pca", help="entry of obsm to carry (default: X_pca)")
    parser.add_argument("--objective", choices=("bridge", "trajectory"), default="bridge", help="(default: bridge)")
    parser.add_argument("--epochs", type=int, help="passes over the stack (default: as the objective has it)")
    parser.add_argument("--device", help="cpu, cuda or cuda:N (default: a GPU where there is one)")
    parser.add_argument(
        "--save-model", type=Path, metavar="DIR", help="also save the fit, for isost.Reconstruction.load"
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on from OUT.zarr.partial, which an interrupted run left"
    )


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.description = _DEMO
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder to make (default: isost_demo, or isost_demo_2, ... if taken)"
    )


def _run(args: argparse.Namespace) -> None:
    if not args.stack.is_file():
        raise FileNotFoundError(f"Expected an .h5ad file, found none at {args.stack}. Next: check the path.")
    for path in () if args.resume else (args.out, args.save_model):
        if path is not None:
            check_target(path)

    import isost

    adata = _read(args.stack)
    how = {key: getattr(args, key) for key in (*_READING, "objective", "epochs", "device")}
    where = {"output": args.out, "save_model": args.save_model, "resume": args.resume}
    isost.tl.reconstruct(adata, voxel_size=args.voxel_size, genes=args.genes, rng=args.seed, **where, **how)
    if args.save_model is not None:
        print(f"wrote {args.save_model}: the fit, for isost.Reconstruction.load")
    print(f"wrote {args.out}: the volume, for spatialdata.read_zarr")


def _read(path: Path) -> AnnData:
    import anndata as ad

    try:
        return ad.read_h5ad(path, backed="r" if path.stat().st_size > _LARGE else None)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"Expected an .h5ad file, found that {path} cannot be read as one: {_message(error)}. "
            "Next: write it by adata.write_h5ad(path)."
        ) from error


def _demo(args: argparse.Namespace) -> None:
    out = args.out
    if out is None:
        names = ["isost_demo", *(f"isost_demo_{number}" for number in range(2, 1000))]
        out = next(path for path in map(Path, names) if not path.exists())
    check_target(out)

    from isost._demo import demo

    demo(out, seed=args.seed)


def _message(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, KeyError) and error.args:  # its own text is the repr of the message
        text = str(error.args[0])
    elif isinstance(error, OSError) and error.strerror:  # its own text begins with the number
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return "\n  ".join(line for line in text.splitlines() if line.strip()) or type(error).__name__
