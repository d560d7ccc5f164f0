from __future__ import annotations

import json
import subprocess
import sys

import pytest

from hybridvit.components.attention import Attention
from hybridvit.components.blocks import Block, Branch
from hybridvit.components.convs import AvgPool, Conv, MaxPool
from hybridvit.components.heads import LinearHead
from hybridvit.components.mixers import Mlp
from hybridvit.components.norms import GroupNorm, LayerNorm
from hybridvit.components.pools import MeanPool, TokenPool
from hybridvit.components.positions import LearnedPosition
from hybridvit.components.transitions import Add, Patchify, Steps
from hybridvit.encoder import Model, Stage
from hybridvit.registry import model_spec, spec_from_dict
from hybridvit.spec import Grid, Spec, SpecError

BLOCK = Block(branches=(Branch(mixer=Attention(heads=2), norm=LayerNorm()), Branch(mixer=Mlp(hidden=16))))
MODEL = Model(
    stages=(Stage(enter=Patchify(dim=8, patch=4), blocks=(BLOCK, BLOCK), prefix=1, position=LearnedPosition()),),
    pool=MeanPool(),
    head=LinearHead(),
    img_size=(16, 24),
    num_classes=3,
)


def test_json_writes_equal_neighbours_once():
    data = json.loads(json.dumps(MODEL.to_dict()))
    assert data["stages"][0]["blocks"] == [{"repeat": 2, "of": BLOCK.to_dict()}]
    assert spec_from_dict(data) == MODEL


def test_replace_is_the_way_to_an_ablation():
    one = MODEL.stages[0].replace(blocks=(BLOCK,))
    changed = MODEL.replace(stages=(one,))
    assert len(changed.build().stages[0].blocks) == 1  # pyright: ignore[reportArgumentType]
    assert len(MODEL.stages[0].blocks) == 2
    with pytest.raises(SpecError, match=r"Stage has no field 'block'. Did you mean 'blocks'\?"):
        MODEL.stages[0].replace(block=())


def broken(**changes: object) -> dict[str, object]:
    return json.loads(json.dumps(MODEL.to_dict())) | changes


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (broken(kind="Modle"), r"spec: unknown kind 'Modle'. Did you mean 'Model'"),
        (broken(poool={}), r"Model has no field 'poool'. Did you mean 'pool'"),
        (broken(img_size=[16]), r"spec.img_size: expected 2 values, found 1"),
        (broken(num_classes="many"), r"spec.num_classes: expected int, found 'many'"),
        (broken(num_classes=True), r"spec.num_classes: expected int, found True"),
        (broken(pool=LinearHead().to_dict()), r"spec.pool: expected a Pool, found a LinearHead"),
        (broken(head="LinearHead"), r"spec.head: expected a Head, found 'LinearHead'"),
        (broken(stages={}), r"spec.stages: expected a list"),
        (broken(stages=[{"repeat": 0, "of": MODEL.stages[0].to_dict()}]), r"expected a count from 1 to 10000"),
        (broken(stages=[{"repeat": 10**9, "of": MODEL.stages[0].to_dict()}]), r"expected at most 20000 parts"),
        ({"stages": []}, r"a part needs a 'kind'"),
        ({"kind": "Model"}, r"Model lacks stages, pool, head"),
        (LayerNorm().to_dict(), r"expected a Model, found a LayerNorm"),
        (broken(head={"kind": "LinearHead", "dim": 3}), r"spec.head: LinearHead has no field 'dim'"),
    ],
)
def test_unreadable_specs_name_the_place(data: dict[str, object], message: str):
    with pytest.raises(SpecError, match=message):
        spec_from_dict(data)


def test_numbers_must_be_finite():
    with pytest.raises(SpecError, match="finite"):
        Spec.from_dict({"kind": "LayerNorm", "eps": float("nan")})
    assert Spec.from_dict({"kind": "LayerNorm", "eps": 1}) == LayerNorm(eps=1.0)


def test_conv_padding_is_a_number_or_same():
    conv = Conv(dim=4, kernel=3)
    assert Spec.from_dict(conv.to_dict() | {"padding": "same"}) == conv.replace(padding="same")
    with pytest.raises(SpecError, match="padding"):
        Spec.from_dict(conv.to_dict() | {"padding": "sane"})


def test_a_block_keeps_its_shape():
    strided = Block(branches=(Branch(mixer=Conv(dim=8, kernel=3, stride=2)),))
    stage = MODEL.stages[0].replace(prefix=0, blocks=(BLOCK, strided))
    with pytest.raises(SpecError, match=r"stage 0, block 1, branch 0: Conv changes width and grid"):
        MODEL.replace(stages=(stage,)).build()


def test_a_convolution_refuses_prefix_tokens():
    conv = Block(branches=(Branch(mixer=Conv(dim=8, kernel=3)),))
    with pytest.raises(SpecError, match=r"stage 0, block 0, branch 0: Conv .* drop 1 prefix tokens"):
        MODEL.replace(stages=(MODEL.stages[0].replace(blocks=(conv,)),)).build()


def test_numbers_that_do_not_divide_are_named():
    block = Block(branches=(Branch(mixer=Attention(heads=3)),))
    with pytest.raises(SpecError, match=r"stage 0, block 0, branch 0: Attention: 3 heads do not divide width 8"):
        MODEL.replace(stages=(MODEL.stages[0].replace(blocks=(block,)),)).build()
    with pytest.raises(SpecError, match="5 groups do not divide width 8"):
        GroupNorm(groups=5).build(8)
    with pytest.raises(SpecError, match="step 1: Conv: 3 groups do not divide widths 8 -> 9"):
        Steps(steps=(Conv(dim=8), Conv(dim=9, groups=3))).build(3, Grid(4, 4))
    with pytest.raises(SpecError, match=r"unknown activation 'rellu'. Did you mean 'relu'"):
        Mlp(hidden=4, act="rellu").build(8, Grid(4, 4))


def test_both_sides_of_a_sum_meet():
    add = Add(shortcut=AvgPool(), body=Conv(dim=3, kernel=3, stride=2, padding=1))
    for height in range(1, 30):
        assert add.shortcut.out_grid(Grid(height, 7)) == add.body.out_grid(Grid(height, 7))
    with pytest.raises(SpecError, match="the shortcut gives"):
        Add(shortcut=MaxPool(), body=Conv(dim=4)).build(3, Grid(8, 8))


def test_kind_tells_where_a_part_comes_from():
    assert Attention.kind == "Attention"
    assert Model.kind == "Model"

    class Own(LayerNorm):
        pass

    assert Own.kind == f"{__name__}.Own"


def test_specs_need_no_torch():
    code = "import sys, hybridvit.spec, hybridvit.registry as r; r.index(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


def test_specs_are_immutable_values():
    assert model_spec("vit_tiny_patch16_224") == model_spec("vit_tiny_patch16_224")
    assert hash(MODEL) == hash(MODEL.replace())
    with pytest.raises(AttributeError):
        MODEL.num_classes = 4  # pyright: ignore[reportAttributeAccessIssue]


def test_values_in_python_are_checked_like_those_in_json() -> None:
    spec = model_spec("vit_tiny_patch16_224")
    stage = spec.stages[0]
    listed = spec.replace(stages=[stage.replace(blocks=list(stage.blocks))])
    assert listed == spec
    assert json.dumps(listed.to_dict()) == json.dumps(spec.to_dict())
    with pytest.raises(SpecError, match=r"Model\.num_classes: expected int, found '7'"):
        spec.replace(num_classes="7")
    with pytest.raises(SpecError, match=r"Stage\.enter: expected a Transition, found a LayerNorm"):
        stage.replace(enter=LayerNorm())
    with pytest.raises(SpecError, match=r"Model\.img_size: expected 2 values, found 3"):
        spec.replace(img_size=(1, 2, 3))


@pytest.mark.parametrize("heads", [5, 24])
def test_heads_divide_the_width(heads: int) -> None:
    stage = Stage(enter=Patchify(dim=12, patch=4), blocks=(Block(branches=(Branch(mixer=Attention(heads=heads)),)),))
    with pytest.raises(SpecError, match=f"stage 0, block 0, branch 0: Attention: {heads} heads do not divide width 12"):
        Model(stages=(stage,), pool=MeanPool(), head=LinearHead()).build()


def test_a_strided_mixer_is_found_on_the_smallest_grid() -> None:
    branch = Branch(mixer=AvgPool(stride=2), residual=False)
    stage = Stage(enter=Patchify(dim=12, patch=32), blocks=(Block(branches=(branch,)),))
    with pytest.raises(SpecError, match="AvgPool changes width and grid"):
        Model(stages=(stage,), pool=MeanPool(), head=LinearHead(), img_size=(32, 32)).build()


def test_a_pool_reads_no_more_prefix_tokens_than_there_are() -> None:
    stage = Stage(enter=Patchify(dim=12, patch=4), prefix=1)
    with pytest.raises(SpecError, match="TokenPool reads 2 prefix tokens, but the stages add 1"):
        Model(stages=(stage,), pool=TokenPool(tokens=2), head=LinearHead()).build()


def test_a_model_has_stages_and_a_block_branches() -> None:
    with pytest.raises(SpecError, match="a model needs at least one stage"):
        MODEL.replace(stages=()).build()
    hollow = MODEL.stages[0].replace(blocks=(BLOCK, Block(branches=())))
    with pytest.raises(SpecError, match="stage 0, block 1, a block needs at least one branch"):
        MODEL.replace(stages=(hollow,)).build()
