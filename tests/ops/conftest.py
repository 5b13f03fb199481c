"""torch with one thread: workers share the cores."""

import torch

from tests.ops import wrong, wrong_pools

torch.set_num_threads(1)
wrong.KILLERS |= wrong_pools.KILLERS
