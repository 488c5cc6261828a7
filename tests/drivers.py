"""Programs that label fake clips in another process; their arguments are source, dataset and model."""

import secrets

DRIVER = """
import sys
from kinescribe.cluster.label import run_label
from kinescribe.cluster.pipeline import Sessions
from kinescribe.schemas.config import LabelConfig, Resources
from tests.fake_clips import FakeExtractor
source, out, model = sys.argv[1:]
config = LabelConfig(dynamics=model, clips_per_unit=2)
sessions = Sessions(make_extractor=FakeExtractor)
run_label(source, out, config, Resources(label_workers=1), sessions=sessions, join=True)
"""
SLOW_MODEL = """
import time
from kinescribe.models.registry import load_labeller

class Slow:
    def __init__(self, model):
        self.model = model
    def __getattr__(self, name):
        return getattr(self.model, name)
    def describe(self, *arguments, **options):
        time.sleep(0.5)
        return self.model.describe(*arguments, **options)

def slow(config):
    model, codec = load_labeller(config)
    return Slow(model), codec
""" + DRIVER.replace("FakeExtractor)", "FakeExtractor, load_models=slow)")
"""The same with a slow model."""
NODES = (
    """
import atexit, sys, threading, time
import ray
from ray._private.state import state
from ray._raylet import GcsClient
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION
from kinescribe.storage.shards import committed_units

def labellers_node(count):
    while len(committed_units(sys.argv[2])) < count:
        time.sleep(0.05)
    actors = [one for one in state.actor_table(None).values() if "LabelActor" in one["ActorClassName"]]
    (actor,) = [one for one in actors if one["State"] == "ALIVE"]
    return next(node for node in nodes if node.node_id == actor["Address"]["NodeID"])

def lose(node, how):
    print(how, len(committed_units(sys.argv[2])), file=sys.stderr, flush=True)
    cluster.remove_node(node, allow_graceful=False)

def lose_the_labellers_node_twice():
    lose(labellers_node(2), "lost")
    node = labellers_node(5)
    in_2_s = (time.time_ns() + 2_000_000_000) // 1_000_000
    GcsClient(cluster.address).drain_node(node.node_id, DRAIN_NODE_REASON_PREEMPTION, "", in_2_s)
    time.sleep(2)
    lose(node, "drained")

head = {"num_cpus": 0, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
atexit.register(cluster.shutdown)
nodes = [cluster.add_node(num_cpus=3, num_gpus=1, object_store_memory=100 << 20) for _ in range(3)]
ray.init(cluster.address, log_to_driver=False)
atexit.register(ray.shutdown)
threading.Thread(target=lose_the_labellers_node_twice, daemon=True).start()
"""
    + SLOW_MODEL
)
"""The same on three nodes that claim to have a GPU. The node that labels is lost, the next one is lost after
a notice, and the last one finishes the work."""
FULL_STORE = f"""
import ray
ray.init(object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
{DRIVER.replace("FakeExtractor", "LargeExtractor")}"""
"""The same with an object store that is too small for any unit."""
BOUNDED = """
import ray
ray.init(num_cpus=4, object_store_memory=160 << 20, include_dashboard=False, log_to_driver=False)
""" + SLOW_MODEL.replace("FakeExtractor", "EagerExtractor")
"""The same with a decoder that is much faster than the model, and a small object store."""
GROWING = DRIVER.replace("FakeExtractor", "SlowExtractor").replace("label_workers=1", "label_gpus=1")
"""The same with a slow decoder, on a cluster without machines at first, and with GPUs that don't exist."""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
