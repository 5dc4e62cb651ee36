"""Settings for all tests."""

import os

import torch
from threadpoolctl import threadpool_limits

# The tests' batches are small: a second thread gains nothing, and where the cores are shared, waiting for it costs ten
# times the work itself. One thread also adds numbers up in one order.
os.environ["OMP_NUM_THREADS"] = "1"  # for the scripts that the tests start
torch.set_num_threads(1)
threadpool_limits(1)
