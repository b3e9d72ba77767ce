"""The Vision Transformer and its masked autoencoder in PyTorch, told independently, under the same names."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class Patches(nn.Module):
    def __init__(self, C: int, p: int, channels: int):
        super().__init__()
        self.proj = nn.Conv2d(channels, C, p, stride=p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    def __init__(self, C: int, heads: int):
        super().__init__()
        self.qkv, self.proj, self.heads = nn.Linear(C, 3 * C), nn.Linear(C, C), heads

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(z).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Perceptron(nn.Module):
    def __init__(self, C: int, ratio: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(C, ratio * C), nn.Linear(ratio * C, C)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(z)))


class Scale(nn.Module):
    def __init__(self, C: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((C,), 1e-5))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.gamma * z


class Layer(nn.Module):
    def __init__(self, C: int, heads: int, ratio: int = 4, scaled: bool = False):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(C, eps=1e-6), Attention(C, heads)
        self.norm2, self.mlp = nn.LayerNorm(C, eps=1e-6), Perceptron(C, ratio)
        self.ls1, self.ls2 = (Scale(C), Scale(C)) if scaled else (nn.Identity(), nn.Identity())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z = z + self.ls1(self.attn(self.norm1(z)))
        return z + self.ls2(self.mlp(self.norm2(z)))


class VisionTransformer(nn.Module):
    def __init__(
        self, image_size: tuple[int, int] = (28, 28), patch_size: int = 7, channels: int = 1, num_classes: int = 10,
        dim: int = 64, depth: int = 4, heads: int = 4, pool: str = "class", scaled: bool = False,
    ):  # fmt: skip
        super().__init__()
        places = (image_size[0] // patch_size) * (image_size[1] // patch_size)
        self.patch_embed = Patches(dim, patch_size, channels)
        self.cls_token = nn.Parameter(0.02 * torch.randn(1, 1, dim)) if pool == "class" else None
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, places + (pool == "class"), dim))
        self.blocks = nn.ModuleList(Layer(dim, heads, scaled=scaled) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.patch_embed(x)
        if self.cls_token is not None:
            z = torch.cat([self.cls_token.expand(len(z), -1, -1), z], dim=1)
        z = self.encode(z + self.pos_embed)
        return self.head(z.mean(dim=1) if self.cls_token is None else z[:, 0])

    def encode(self, z: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            z = block(z)
        return self.norm(z)


class MaskedAutoencoder(nn.Module):
    """As He et al. 2022 tell it: tokens are put back into the image's order before the decoder."""

    def __init__(self, encoder: VisionTransformer, dim: int, depth: int, heads: int):
        super().__init__()
        C, pixels = encoder.head.in_features, encoder.patch_embed.proj.weight[0].numel()
        self.encoder, self.decoder_embed = encoder, nn.Linear(C, dim)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.decoder_pos_embed = nn.Parameter(0.02 * torch.randn(1, encoder.pos_embed.shape[1], dim))
        self.decoder_blocks = nn.ModuleList(Layer(dim, heads) for _ in range(depth))
        self.decoder_norm, self.decoder_pred = nn.LayerNorm(dim, eps=1e-6), nn.Linear(dim, pixels)

    def forward(self, x: torch.Tensor, keep: torch.Tensor, hide: torch.Tensor) -> torch.Tensor:
        """The loss: mean over hidden patches and pixels."""
        encoder = self.encoder
        first = encoder.pos_embed.shape[1] - keep.shape[1] - hide.shape[1]  # 1 with a class token
        z = encoder.patch_embed(x) + encoder.pos_embed[:, first:]
        z = z.gather(1, keep[:, :, None].expand(-1, -1, z.shape[2]))
        if first:
            token = encoder.cls_token + encoder.pos_embed[:, :1]
            z = torch.cat([token.expand(len(z), -1, -1), z], dim=1)
        y = self.decoder_embed(encoder.encode(z))
        N, D = keep.shape[1] + hide.shape[1], y.shape[2]
        whole = self.mask_token.expand(len(y), N, -1).scatter(1, keep[:, :, None].expand(-1, -1, D), y[:, first:])
        y = torch.cat([y[:, :first], whole], dim=1) + self.decoder_pos_embed
        for block in self.decoder_blocks:
            y = block(y)
        drawn = self.decoder_pred(self.decoder_norm(y))[:, first:]
        p = encoder.patch_embed.proj.kernel_size[0]
        true = F.unfold(x, p, stride=p).transpose(1, 2)
        errors = (drawn - true).square().mean(dim=2)
        mask = torch.zeros_like(errors).scatter(1, hide, 1.0)
        return (errors * mask).sum() / mask.sum()
