from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from vit_pytorch.cct import Tokenizer, TransformerClassifier

from hybridvit.components.positions import SinePosition, sine_table
from hybridvit.families.cct import FAMILY, NUMBERS
from tests.parity import assert_parity, assert_power, load_from, perturb


class Reference(nn.Module):
    """CCT, CVT or ViT-Lite from vit-pytorch's parts, named as in the authors' checkpoints."""

    def __init__(self, name: str, img_size: tuple[int, int]) -> None:
        super().__init__()
        size = FAMILY.sizes[name]
        dim, heads, mlp_ratio = NUMBERS[size["depth"]]
        kernel, convs = size["kernel"], size.get("convs", 0)
        shape = {
            "n_conv_layers": convs or 1,
            "kernel_size": kernel,
            "stride": max(1, kernel // 2 - 1) if convs else kernel,
            "padding": kernel // 2 if convs else 0,
        }
        self.tokenizer = Tokenizer(
            **shape,
            n_output_channels=dim,
            activation=nn.ReLU if convs else None,
            max_pool=bool(convs),
            conv_bias=not convs,
        )
        self.classifier = TransformerClassifier(
            seq_pool=size.get("sequence_pool", True),
            embedding_dim=dim,
            num_layers=size["depth"],
            num_heads=heads,
            mlp_ratio=mlp_ratio,
            num_classes=size.get("num_classes", 10),
            positional_embedding="sine" if size.get("sine") else "learnable",
            sequence_length=self.tokenizer.sequence_length(height=img_size[0], width=img_size[1]),
        )

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.tokenizer(images))


@pytest.mark.parametrize("img_size", [(32, 32), (64, 64), (32, 48)])
@pytest.mark.parametrize("name", ["cct_2_3x2_32", "cct_6_3x1_32", "cct_7_7x2_224", "cvt_2_4_32", "vit_2_4_32"])
def test_parity_with_vit_pytorch(name: str, img_size: tuple[int, int]):
    reference = Reference(name, img_size).eval()
    perturb(reference)
    model = FAMILY.model(name).replace(img_size=img_size)
    ours = load_from(reference, model, FAMILY.layouts["original"](model))
    assert_parity(ours, reference, [img_size])
    assert_power(ours, img_size)


def test_parity_with_sine_positions():
    reference = Reference("cct_2_3x2_32_sine", (32, 48)).eval()
    table = reference.get_parameter("classifier.positional_emb")
    sines = table.detach().clone()
    perturb(reference)
    table.data.copy_(sines)
    model = FAMILY.model("cct_2_3x2_32_sine").replace(img_size=(32, 48))
    (stage,) = model.stages
    model = model.replace(stages=(stage.replace(position=SinePosition(size=(8, 12))),))
    rules = FAMILY.layouts["original"](model)
    theirs = reference.state_dict()
    ours = model.build().eval()
    ours.load_state_dict(rules.to_ours(theirs))
    assert_parity(ours, reference, [(32, 48)])
    back = rules.to_theirs(ours.state_dict())
    assert theirs.keys() - back.keys() == {"classifier.positional_emb"}
    assert all(torch.equal(back[key], theirs[key]) for key in back)


def test_sine_table_is_the_papers():
    table = sine_table(50, 16)[0]
    assert table[7, 4].item() == pytest.approx(torch.sin(torch.tensor(7 / 10000 ** (4 / 16))).item(), abs=1e-6)
    assert table[7, 5].item() == pytest.approx(torch.cos(torch.tensor(7 / 10000 ** (4 / 16))).item(), abs=1e-6)
