#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""vLLM MultiprocExecutor.collective_rpc round trip, workers idle, model loaded.

usage: rpc.py MODEL [--workers 2] [--n 1000] [--backend mp|ray]      (PYTHONPATH is set to this folder)
The executor is created in this process, as EngineCore does, so the figure is the executor's alone.
Prints one JSON line per case: back to back, and after the workers idled for 10 ms and 1.5 s (past the 1 s spin).
MEASURE_LOCK=FILE: hold flock(FILE) while timing.
"""
import argparse, contextlib, fcntl, json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
os.environ["PYTHONPATH"] = here + os.pathsep + os.environ.get("PYTHONPATH", "")
sys.path.insert(0, here)
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

@contextlib.contextmanager
def lock():
    p = os.environ.get("MEASURE_LOCK")
    if not p:
        yield
        return
    with open(p) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield

def q(v, p):
    v = sorted(v)
    return round(v[min(len(v) - 1, int(p * len(v)))] / 1e3, 1)

def main():
    a = argparse.ArgumentParser()
    a.add_argument("model"); a.add_argument("--workers", type=int, default=2); a.add_argument("--n", type=int, default=1000)
    a.add_argument("--backend", default="mp")
    a = a.parse_args()
    if a.backend == "ray":             # needs plugin/ on PYTHONPATH: stock vLLM refuses Ray on CPU
        import ray
        ray.init(num_cpus=2, num_gpus=a.workers, include_dashboard=False, log_to_driver=bool(os.environ.get("RAYLOG")),
                 _node_ip_address="127.0.0.1")
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.executor.abstract import Executor
    cfg = EngineArgs(a.model, dtype="bfloat16", max_model_len=512, enforce_eager=True, skip_tokenizer_init=True,
                     tensor_parallel_size=1, pipeline_parallel_size=a.workers, max_num_seqs=4,
                     distributed_executor_backend=a.backend, worker_extension_cls="rpc_ext.Ext").create_engine_config()
    t0 = time.time()
    ex = Executor.get_class(cfg)(cfg)
    print(json.dumps({"executor": type(ex).__name__, "workers": a.workers, "init_s": round(time.time() - t0, 1)}), flush=True)
    def case(name, n, gap, method, args=(), **kw):
        v = []
        for i in range(n):
            if gap:
                time.sleep(gap)
            t = time.monotonic_ns(); ex.collective_rpc(method, args=args, **kw); v.append(time.monotonic_ns() - t)
        print(json.dumps({"case": name, "n": n, "p50_us": q(v, .5), "p90_us": q(v, .9), "p99_us": q(v, .99), "min_us": q(v, 0)}), flush=True)
    for _ in range(50):
        ex.collective_rpc("noop")
    with lock():
        case("noop, back to back, all reply", a.n, 0, "noop")
        case("echo 1 KB, all reply", a.n, 0, "echo", (b"x" * 1024,))
        case("echo 8 KB, all reply", a.n, 0, "echo", (b"x" * 8192,))
        if a.backend == "mp":
            case("echo 1 KB, one reply", a.n, 0, "echo", (b"x" * 1024,), unique_reply_rank=0)
        case("echo 1 KB after 10 ms", 100, 0.01, "echo", (b"x" * 1024,))
        case("echo 1 KB after 1.5 s", 8, 1.5, "echo", (b"x" * 1024,))
    ex.shutdown()

if __name__ == "__main__":
    main()
