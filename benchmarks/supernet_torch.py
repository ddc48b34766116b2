"""The network of cells in PyTorch: eager, channels last, one thread.

Letters as in `rafiki.supernet.cells`, whose network this states again.
"""

from collections.abc import Sequence

import numpy as np
import torch
from benchmarks.supernet_contender import Choices, Setting, Work
from torch.nn import functional

KERNEL_SIZES = (3, 5)
STATES = 7
MEAN, DEVIATION = 0.5, 0.25


def make_contender(name: str, setting: Setting) -> "TorchContender":
    """The one there is."""
    torch.set_num_threads(1)
    return TorchContender(setting)


class TorchContender:
    """Networks of any architecture, with the weights that each uses."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        with np.load(setting.weights) as file:
            self.params = dict(file)
        images = torch.from_numpy(self.params["images"]).permute(0, 3, 1, 2)
        self.images = images.contiguous(memory_format=torch.channels_last)
        self.labels = torch.from_numpy(self.params["labels"]).long()

    def prepare(self, arch: Choices) -> Work:
        """Makes the network."""
        return TorchWork(self, arch)


class TorchWork:
    """A network for evaluation and one of the same weights that is trained."""

    compile_s: Sequence[tuple[float, float]] = ()

    def __init__(self, contender: TorchContender, arch: Choices) -> None:
        setting = contender.setting
        self.contender = contender
        self.evaluated, self.trained = (
            Network(setting, arch, contender.params).to(memory_format=torch.channels_last)
            for _ in range(2)
        )
        self.optimizer = torch.optim.SGD(
            self.trained.parameters(),
            lr=setting.learning_rate,
            momentum=0.9,
            nesterov=True,
            weight_decay=setting.weight_decay,
        )

    def evaluate(self) -> np.ndarray:
        with torch.inference_mode():
            logits: np.ndarray = self.evaluated(self.contender.images).numpy()
        return logits

    def train(self) -> float:
        self.optimizer.zero_grad()
        loss = functional.cross_entropy(self.trained(self.contender.images), self.contender.labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class Norm(torch.nn.Module):
    """Batch norm by the statistics of the minibatch; `norm` `[2, C]` is scale and offset."""

    def __init__(self, norm: np.ndarray) -> None:
        super().__init__()
        self.scale, self.offset = (torch.nn.Parameter(torch.tensor(part)) for part in norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(
            x, None, None, self.scale, self.offset, training=True, eps=1e-5
        )


def pointwise(kernel: np.ndarray) -> torch.nn.Parameter:
    """The kernel `[C2, C, 1, 1]` of a 1x1 convolution."""
    return torch.nn.Parameter(torch.tensor(kernel.T[:, :, None, None]))


class Separable(torch.nn.Module):
    """Two times ReLU, depthwise, pointwise, batch norm."""

    def __init__(self, size: int, channels: int, packed: np.ndarray) -> None:
        super().__init__()
        parts = [size * size * channels, channels * channels, channels, channels] * 2
        pieces = np.split(packed[: sum(parts)], np.cumsum(parts)[:-1])
        self.padding = size // 2
        self.depthwise, self.pointwise = torch.nn.ParameterList(), torch.nn.ParameterList()
        self.norms = torch.nn.ModuleList()
        for kernel, matrix, *norm in (pieces[:4], pieces[4:]):
            kernel = kernel.reshape(size, size, channels).transpose(2, 0, 1)[:, None]
            self.depthwise.append(torch.nn.Parameter(torch.tensor(kernel)))
            self.pointwise.append(pointwise(matrix.reshape(channels, channels)))
            self.norms.append(Norm(np.stack(norm)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for kernel, matrix, norm in zip(self.depthwise, self.pointwise, self.norms, strict=True):
            x = functional.conv2d(
                functional.relu(x), kernel, padding=self.padding, groups=x.shape[1]
            )
            x = norm(functional.conv2d(x, matrix))
        return x


class Unweighted(torch.nn.Module):
    """Average pooling, maximum pooling or nothing."""

    def __init__(self, operation: int) -> None:
        super().__init__()
        self.operation = operation

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.operation == 2:
            return functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        return functional.max_pool2d(x, 3, 1, 1) if self.operation == 3 else x


class Projection(torch.nn.Module):
    """ReLU, a 1x1 convolution (of even and of odd pixels, if it halves), batch norm."""

    def __init__(self, kernel: np.ndarray, norm: np.ndarray, halves: bool) -> None:
        super().__init__()
        parts = np.split(kernel, 2, axis=1) if halves else [kernel]
        self.kernels = torch.nn.ParameterList([pointwise(part) for part in parts])
        self.norm = Norm(norm)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.relu(x)
        if len(self.kernels) == 1:
            return self.norm(functional.conv2d(x, self.kernels[0]))
        even, odd = self.kernels
        shifted = functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        halves = [functional.conv2d(x, even, stride=2), functional.conv2d(shifted, odd, stride=2)]
        return self.norm(torch.cat(halves, dim=1))


class Cell(torch.nn.Module):
    """The nodes of a cell and its output."""

    def __init__(
        self,
        choices: list[list[int]],
        rows: list[int],
        loose: list[int],
        edges: np.ndarray,
        outputs: np.ndarray,
        norm: np.ndarray,
    ) -> None:
        super().__init__()
        self.choices = choices
        self.loose = [state for state in loose if state < STATES]
        self.operations = torch.nn.ModuleList(
            Separable(KERNEL_SIZES[operation], outputs.shape[-1], edges[rows[2 * node + side]])
            if operation < len(KERNEL_SIZES)
            else Unweighted(operation)
            for node, choice in enumerate(choices)
            for side, operation in enumerate(choice[2:])
        )
        self.output = pointwise(outputs[self.loose].reshape(-1, outputs.shape[-1]))
        self.norm = Norm(norm)

    def forward(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        states = [first, second]
        for node, (left, right, _, _) in enumerate(self.choices):
            over_left, over_right = self.operations[2 * node], self.operations[2 * node + 1]
            states.append(over_left(states[left]) + over_right(states[right]))
        ends = torch.cat([states[state] for state in self.loose], dim=1)
        y: torch.Tensor = self.norm(functional.conv2d(functional.relu(ends), self.output))
        return y


class Network(torch.nn.Module):
    """The network of one architecture."""

    def __init__(self, setting: Setting, arch: Choices, params: dict[str, np.ndarray]) -> None:
        super().__init__()
        depth = setting.size[2]
        stem = params["stem/kernel"].reshape(3, 3, depth, -1).transpose(3, 2, 0, 1)
        self.stem = torch.nn.Parameter(torch.tensor(stem))
        self.stem_norm = Norm(params["stem/norm"])
        self.inputs, self.stages = torch.nn.ModuleList(), torch.nn.ModuleList()
        for stage, count in enumerate(setting.stages):
            path = f"stage_{stage}"
            self.inputs.append(
                torch.nn.ModuleList(
                    Projection(
                        params[f"{path}/input_{index}/kernel"],
                        params[f"{path}/input_{index}/norm"],
                        halves=stage > 0,
                    )
                    for index in range(1 + min(count, 2))
                )
            )
            self.stages.append(
                torch.nn.ModuleList(
                    Cell(
                        *(arch[field][kind] for field in ("choices", "rows", "loose")),  # type: ignore[arg-type]
                        *(params[f"{path}/{name}"][cell] for name in ("edges", "outputs", "norms")),
                    )
                    for cell, kind in enumerate([min(stage, 1)] + [0] * (count - 1))
                )
            )
        self.head = torch.nn.Parameter(torch.tensor(params["head/kernel"]))
        self.bias = torch.nn.Parameter(torch.tensor(params["head/bias"]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = (images.float() / 255.0 - MEAN) / DEVIATION
        before = last = self.stem_norm(functional.conv2d(x, self.stem, padding=1))
        for inputs, cells in zip(self.inputs, self.stages, strict=True):
            entering = [
                make(source) for make, source in zip(inputs, (before, last, last), strict=False)
            ]
            first, second, next_first = entering[0], entering[1], entering[-1]
            for cell in cells:
                y = cell(first, second)
                first, second, next_first = next_first, y, y
            before, last = (first if len(cells) > 1 else last), second
        pooled = functional.relu(last).mean((2, 3))
        return pooled @ self.head + self.bias
