"""What a metric sees: one ordered pair of updates in one module, and nothing of files or batches.

Axes: r is the padded rank of the module; k and l are the numerical ranks of source and target.
Everything beyond a rank is zero.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array


class Side(NamedTuple):
    """How the two spaces of one side (output or input) lie to each other.

    Attributes:
        gram: [r, r] U_sourceᵀ U_target (V for inputs): cosines between the bases.
        angles: [r] principal angles in radians, ascending; with padding "pi/2", |k − l| times π/2;
            then 0. Zeros add nothing to a sum of angles, so most distances are one line over this
            vector.
        rank_source: [] integer, k: the source's numerical rank.
        rank_target: [] integer, l: the target's numerical rank.
        outside: [r, r] I − gramᵀ gram on the target's live directions, without cancellation: how
            much of the target's basis lies outside the source's space. None unless a metric needs
            it.

    """

    gram: Array
    angles: Array
    rank_source: Array
    rank_target: Array
    outside: Array | None

    @property
    def shared(self) -> Array:
        """[] min(k, l), the number of principal angles."""
        return jnp.minimum(self.rank_source, self.rank_target)

    @property
    def principal(self) -> Array:
        """[r] the min(k, l) principal angles alone, zero after: `angles` without padding."""
        return jnp.where(jnp.arange(self.angles.shape[0]) < self.shared, self.angles, 0)


class Pair(NamedTuple):
    """One ordered pair: source ΔW₁ = U₁ S₁ V₁ᵀ, target ΔW₂ = U₂ S₂ V₂ᵀ.

    Attributes:
        s_source: [r] singular values of the source, descending.
        s_target: [r] singular values of the target, descending.
        rank_source: [] integer, k: the source's numerical rank.
        rank_target: [] integer, l: the target's numerical rank.
        out: Spaces of outputs (spans of U); None where no metric asked for it needs them.
        inp: Spaces of inputs (spans of V); None likewise.

    """

    s_source: Array
    s_target: Array
    rank_source: Array
    rank_target: Array
    out: Side | None
    inp: Side | None

    @property
    def both(self) -> tuple[Side, Side]:
        """The output and the input side, for metrics that need the two."""
        assert self.out is not None
        assert self.inp is not None
        return self.out, self.inp

    @property
    def core(self) -> Array:
        """[r, r] U₁ᵀ ΔW₂ V₁: the target written in the source's bases."""
        out, inp = self.both
        return jnp.einsum("kl,l,ml->km", out.gram, self.s_target, inp.gram, precision="highest")

    @property
    def diagonal(self) -> Array:
        """[r] its diagonal u_kᵀ ΔW₂ v_k, the spectral projection of the target on the source."""
        out, inp = self.both
        return jnp.einsum("kl,l,kl->k", out.gram, self.s_target, inp.gram, precision="highest")

    @property
    def live_source(self) -> Array:
        """[r] bool, the source's k live directions."""
        return jnp.arange(self.s_source.shape[0]) < self.rank_source


# Left to itself, `help` calls each an "Alias for field number …".
for _class in (Side, Pair):
    for _field in _class._fields:
        getattr(_class, _field).__doc__ = None
