"""HaloNet: ResNets, and a RegNetZ, some of whose blocks attend to a window and its surroundings (arXiv 2103.12731)."""

from .. import components as c
from . import Family, Sizes
from .botnet import NEXT26, T26, TS33, TS50, attention_resnet, timm_rules


def halo(attention: c.HaloAttention) -> dict[str, c.HaloAttention]:
    """Of attentions by their letter, "a" keeps the grid and "s" strides."""
    return {"a": attention, "s": attention.replace(stride=2)}


H1 = {"blocks": "aaa saa saaaaaaaaa saa", "dims": (64, 128, 256, 512), "act": "relu", "stem": "7x7"}
REGNETZ = {"blocks": "cc cccccc cccacccaccca ab", "dims": (48, 96, 192, 288), "stem": "3x3", "last": 1536}
REGNETZ |= {"group_width": 16, "excite": c.excite_part, "inverted": True, "img_size": 224}
HALO2, HALO3, REGNET = c.HaloAttention(halo=2), c.HaloAttention(halo=3), c.HaloAttention(halo=2, window=7)
SIZES: Sizes = {
    "halonet_h1": H1 | {"attentions": halo(HALO3)},
    "halonet26t": T26 | {"blocks": "cc cc ca sa", "attentions": halo(HALO2)},
    "sehalonet33ts": TS33 | {"blocks": "cc cca cca sa", "attentions": halo(HALO3)},
    "halonet50ts": TS50 | {"blocks": "ccc cccb cacaca cac", "attentions": {"a": HALO3, "b": HALO3.replace(heads=4)}},
    "eca_halonext26ts": NEXT26 | {"blocks": "cc cc ca sa", "attentions": halo(HALO2.replace(key_dim=16))},
    "halo2botnet50ts_256": TS50
    | {"blocks": "ccc caca cacaca cbc", "stem": "strided", "attentions": {"a": HALO3, "b": c.BottleneckAttention()}},
    "haloregnetz_b": REGNETZ | {"attentions": {"a": REGNET.replace(key_dim=24), "b": REGNET.replace(key_dim=36)}},
}
FAMILY = Family("halonet", "arXiv 2103.12731", attention_resnet, SIZES, {"timm": timm_rules})
