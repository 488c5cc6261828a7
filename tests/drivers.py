"""Programs that label fake clips in processes of their own: source, dataset and model are their arguments."""

import secrets

DRIVER = """
import sys
from cluster.label import Sessions, run_label
from schemas.config import LabelConfig, Resources
from tests.fake_clips import FakeExtractor
source, out, model = sys.argv[1:]
config = LabelConfig(dynamics=model, clips_per_unit=2)
run_label(source, out, config, Resources(label_workers=1), sessions=Sessions(make_extractor=FakeExtractor))
"""
NODES = (
    """
import atexit, sys, threading, time
import ray
from ray._private.state import state
from ray.cluster_utils import Cluster
from storage.shards import committed_units

def lose_the_labellers_node():
    while len(committed_units(sys.argv[2])) < 2:
        time.sleep(0.05)
    (actor,) = [one for one in state.actor_table(None).values() if "LabelActor" in one["ActorClassName"]]
    lost = next(node for node in nodes if node.node_id == actor["Address"]["NodeID"])
    cluster.remove_node(lost, allow_graceful=False)
    print("lost", len(committed_units(sys.argv[2])), file=sys.stderr, flush=True)

head = {"num_cpus": 0, "object_store_memory": 100 << 20}
cluster = Cluster(initialize_head=True, head_node_args=head, shutdown_at_exit=False)
atexit.register(cluster.shutdown)
nodes = [cluster.add_node(num_cpus=3, object_store_memory=100 << 20) for _ in range(3)]
ray.init(cluster.address, log_to_driver=False)
atexit.register(ray.shutdown)
threading.Thread(target=lose_the_labellers_node, daemon=True).start()
"""
    + DRIVER
)
"""The same on three nodes, of which the one that labels is lost; the others have room for its work."""
FULL_STORE = f"""
import ray
ray.init(object_store_memory=80 << 20, include_dashboard=False, log_to_driver=False)
{DRIVER.replace("FakeExtractor", "LargeExtractor")}"""
"""The same with an object store that no unit fits into."""
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
