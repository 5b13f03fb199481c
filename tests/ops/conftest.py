"""torch with one thread: workers share the cores."""

import torch

torch.set_num_threads(1)
