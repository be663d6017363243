"""Compute the frozen features on many machines, then train on one.

python examples/precompute_cluster.py --data DIR --weights FILE --cache-dir STORE
python examples/precompute_cluster.py --data DIR --cache-dir STORE --scheduler tcp://HOST:8786

Without `--scheduler` dask starts its own workers on this machine. With one, all machines must see DIR,
FILE and STORE under the same paths.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
from dask.distributed import Client, LocalCluster

import topwork as tw


def parse_arguments() -> argparse.Namespace:
    """Where the photographs, the weights, the store and the workers are."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="has `train` and `validation`")
    add("--cache-dir", type=Path, required=True, metavar="STORE")
    add("--backbone", default="inception_v3")
    add("--cut-layer", default="mixed7")
    add("--weights", default="imagenet", metavar="FILE", help="a file, or `imagenet`")
    add("--image-size", type=int, default=150)
    add("--epochs", type=int, default=20)
    add("--scheduler", help="address of a running dask scheduler")
    add("--workers", type=int, default=2, help="without --scheduler")
    return parser.parse_args()


def main() -> None:
    """Hand a part of each data set to each worker; then train on what they stored."""
    args = parse_arguments()
    cluster = None if args.scheduler else LocalCluster(args.workers, threads_per_worker=1)
    with Client(args.scheduler or cluster) as client:
        n_workers = len(client.scheduler_info(n_workers=-1)["workers"])
        parts = [(part, i) for part in ("train", "validation") for i in range(n_workers)]
        tasks = [client.submit(compute_part, args, *part, n_workers, pure=False) for part in parts]
        computed = client.gather(tasks)
    if cluster is not None:
        cluster.close()
    print(f"{n_workers} workers computed {sum(computed)} photographs: {computed}")

    history = tw.fit(
        build(args),
        photographs(args, "train"),
        validation_data=photographs(args, "validation"),
        epochs=args.epochs,
        cache_dir=args.cache_dir,
    )
    print(f"Validation accuracy {history.history['val_accuracy'][-1]:.4f}")


def compute_part(args: argparse.Namespace, part: str, index: int, n_workers: int) -> int:
    """What one worker does: every n-th batch of a data set, from its own share of the files."""
    shard = photographs(args, part).shard(n_workers, index)
    return tw.precompute(build(args), shard, cache_dir=args.cache_dir, verbose=0)


def build(args: argparse.Namespace) -> keras.Model:
    """The same model everywhere; the head does not matter for what is stored."""
    backbone = tw.load_backbone(
        args.backbone,
        args.cut_layer,
        weights=args.weights,
        input_shape=(args.image_size, args.image_size, 3),
    )
    return tw.add_head(n_classes=1)(tw.freeze(backbone))


def photographs(args: argparse.Namespace, part: str):
    """In a fixed order, so that the workers' shares do not overlap; `fit` shuffles them itself."""
    return tw.data.read_folder(args.data / part, (args.image_size, args.image_size), shuffle=False)


if __name__ == "__main__":
    main()
