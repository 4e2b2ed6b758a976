"""Treeplex: the strategy space of one player, and the only sweeps over it.

A treeplex is a tree of simplexes. Information set j hangs from a sequence (the player's last own action before j, or
the empty sequence 0) and its actions are the next sequences. A matrix game is the treeplex with one information set.

Letters, used everywhere: I information sets; S sequences, the empty one (index 0) included; A actions of an infoset.
Order: infosets are sorted by (level, number of actions, parent sequence), where level counts the player's own earlier
infosets, and the sequences of infoset j follow those of infoset j - 1. So a group of infosets with the same level and
the same number of actions is a contiguous [n, A] block of any array over sequences, and sweeps need no ragged loops.

Arrays over sequences have shape [S]: `log_policy` holds log behavioural probabilities (entry 0 is 0), `plan` holds
realisation probabilities (entry 0 is 1, `plan[ja] = plan[parent(j)] * policy[ja]`).

Source: Hoda, Gilpin, Pena, Sandholm 2010 (treeplex, dilated prox); Sokota et al. 2023, App. C.3 (MMD on sequence form).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from mmd.game.blocks import (
    Block,
    Group,
    depth_of,
    in_blocks,
    in_groups,
    in_levels,
    in_spans,
    numbers_of_actions,
    padded_levels,
)
from mmd.game.payoff import taken
from mmd.simplex import exp_remainder, masked_log_softmax
from mmd.update import magnetic_step

Rule = Callable[..., tuple[Array, Array]]

MAX_UNROLLED_LEVELS = 48  # beyond this the compiled program would grow with the depth of the tree
SMALLEST_WEIGHT = 1e-9  # of the largest entry of the bound
UNDERFLOW = 1e-290


class Ordering(NamedTuple):
    """How `Treeplex.build` renumbered: position in the treeplex -> caller's infoset, caller's sequence -> sequence."""

    infosets: Int[np.ndarray, " I"]
    sequences: Int[np.ndarray, " S"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Treeplex:
    """One player's strategy space.

    Attributes:
        parent: [I] parent sequence of each infoset (0 = the empty sequence).
        first_sequence: [I] first sequence of each infoset.
        owner: [S] infoset of each sequence (of the empty one: 0, which nothing may rely on).
        blocks: the (level, number of actions) groups, in order; static under jit.
    """

    parent: Int[Array | np.ndarray, " I"]
    first_sequence: Int[Array | np.ndarray, " I"]
    owner: Int[Array | np.ndarray, " S"]
    blocks: tuple[Block, ...] = field(metadata={"static": True})

    def __repr__(self) -> str:
        return f"Treeplex({len(self.parent):,} infosets, {len(self.owner):,} sequences)"

    @classmethod
    def simplex(cls, n_actions: int) -> "Treeplex":
        """The strategy space of a matrix game: one infoset with `n_actions` actions."""
        return cls.build(np.zeros(1, np.int64), np.array([n_actions]))[0]

    @classmethod
    def build(cls, parent: Int[np.ndarray, " I"], n_actions: Int[np.ndarray, " I"]) -> tuple["Treeplex", Ordering]:
        """Sort infosets into the treeplex order.

        Args:
            parent: parent sequence of each infoset, in the caller's numbering. There 0 is the empty sequence, the
                actions of infoset 0 are sequences 1.., those of infoset 1 follow, and so on.
            n_actions: number of actions of each infoset (>= 1).

        Returns the treeplex, and the renumbering that payoffs and labels must follow.
        """
        parent, n_actions = np.asarray(parent, np.int64), np.asarray(n_actions, np.int64)
        first = 1 + np.concatenate([[0], np.cumsum(n_actions)])
        owner = np.concatenate([[-1], np.repeat(np.arange(len(parent)), n_actions)])
        level = depth_of(owner[parent])
        order = np.lexsort((parent, n_actions, level))
        new_first = 1 + np.concatenate([[0], np.cumsum(n_actions[order])])
        shift = np.empty(len(parent), np.int64)
        shift[order] = new_first[:-1] - first[order]
        sequences = np.arange(first[-1])
        sequences[1:] += np.repeat(shift, n_actions)
        counts = n_actions[order]
        owner = np.concatenate([[0], np.repeat(np.arange(len(parent)), counts)])
        above = sequences[parent[order]].astype(np.int32)
        treeplex = cls(above, new_first[:-1].astype(np.int32), owner.astype(np.int32), in_blocks(level[order], counts))
        return treeplex, Ordering(order, sequences)

    @property
    def n_infosets(self) -> int:
        """I, the number of information sets."""
        return self.blocks[-1].infosets.stop if self.blocks else 0

    @property
    def n_sequences(self) -> int:
        """S, the number of sequences, the empty one included."""
        return self.blocks[-1].sequences.stop if self.blocks else 1

    @property
    def n_actions(self) -> Int[np.ndarray, " I"]:
        """[I] number of actions of each infoset; read only."""
        return numbers_of_actions(self.blocks)

    @property
    def levels(self) -> tuple[tuple[Block, ...], ...]:
        """The blocks of each level, from the top."""
        return in_levels(self.blocks)

    @property
    def groups(self) -> tuple[tuple[Group, ...], ...]:
        """The groups of each level, from the top."""
        return in_groups(self.blocks)

    @property
    def _is_deep(self) -> bool:
        """Whether a program with a step for each level would be too long."""
        return bool(self.blocks) and self.blocks[-1].level >= MAX_UNROLLED_LEVELS

    def by_rows(self, function: Callable[..., Any], *rows: Array) -> Any:
        """`function(*rows)`, which treats every row by itself; on a mesh (`mmd.game.sharding`) rows are divided."""
        return function(*rows)

    def bottom_up(
        self,
        leaves: Float[Array, " S"],
        rule: Rule,
        *,
        infoset: tuple[Float[Array, " I"], ...] = (),
        sequence: tuple[Float[Array, " S"], ...] = (),
    ) -> tuple[Float[Array, ""], Array]:
        """Fold values from the leaves to the root.

        Args:
            leaves: [S] what each sequence is worth by itself (a payoff gradient); children's values are added to it.
            rule: `rule(q, *infoset, *sequence) -> (value, output)` at a group of n infosets with A actions. There
                q is [n, A] (own value plus children's), the infoset arrays come as [n], the sequence arrays as [n, A].
                The value [n] is passed to the parent sequences, and the output is [n] or [n, A].
            infoset, sequence: arrays handed to the rule.

        Returns:
            The value of the empty sequence, and the outputs as one [I] or [S] array (0 at the empty sequence).
        """
        if not self.blocks:  # nothing to decide; the rule only says what kind of output it has
            _, output = rule(leaves[:0, None], *(a[:0] for a in infoset), *(a[:0, None] for a in sequence))
            return leaves[0], jnp.zeros(1, leaves.dtype) if output.ndim > 1 else output
        if self._is_deep:
            return self._bottom_up_scanned(leaves, rule, infoset, sequence)
        outputs: list[Array] = []
        child_values: Array | None = None
        per_sequence = False
        for level in reversed(self.groups):
            start, stop = level[0].sequences.start, level[-1].sequences.stop
            q = leaves[start:stop] if child_values is None else leaves[start:stop] + child_values
            above = self._level_start(level[0].level - 1)
            values = jnp.zeros(start - above, leaves.dtype)
            for group in reversed(level):
                value, output = self.by_rows(
                    rule,
                    self._rows(q, group, start, -jnp.inf),
                    *(a[group.infosets] for a in infoset),
                    *(self._rows(a, group, 0, 0.0) for a in sequence),
                )
                values = values.at[self.parent[group.infosets] - above].add(value)
                per_sequence = output.ndim > 1
                outputs.append(self._flat(output, group) if per_sequence else output)
            child_values = values
        root = leaves[0] if child_values is None else leaves[0] + child_values[0]
        if per_sequence:
            outputs.append(jnp.zeros(1, leaves.dtype))
        return root, jnp.concatenate(outputs[::-1])

    @jax.jit
    def top_down(self, log_policy: Float[Array, " S"]) -> Float[Array, " S"]:
        """The plan of a log-policy: `plan[ja] = plan[parent(j)] * exp(log_policy[ja])`."""
        return self.plan_of_probabilities(self.by_rows(jnp.exp, log_policy))

    @jax.jit
    def plan_of_probabilities(self, policy: Float[Array, " S"]) -> Float[Array, " S"]:
        """The plan of behavioural probabilities, which may be 0; entry 0 is not read. Of their logs: `top_down`."""
        if self._is_deep:
            return self._top_down_scanned(policy)
        above = jnp.ones(1, policy.dtype)
        parts = [above]
        for level in self.groups:
            start = self._level_start(level[0].level - 1)
            parts.append(jnp.concatenate([self._extend(above, policy, group, start) for group in level]))
            above = parts[-1]
        return jnp.concatenate(parts)

    def _extend(self, above: Array, policy: Array, group: Group, start: int) -> Array:
        """Plan of a group's sequences; `above` is the plan of the level above, whose first sequence is `start`."""
        if group.padded:
            parent = taken(jnp.asarray(self.parent), jnp.asarray(self.owner)[group.sequences])
            return taken(above, parent - start) * policy[group.sequences]
        reach = taken(above, self.parent[group.infosets] - start)
        return (reach[:, None] * policy[group.sequences].reshape(-1, group.n_actions)).reshape(-1)

    @jax.jit
    def magnetic_step(
        self,
        log_policy: Float[Array, " S"],
        log_magnet: Float[Array, " S"],
        gradient: Float[Array, " S"],
        eta: Float[Array, ""] | float,
        alpha: Float[Array, ""] | float,
        weights: Float[Array, " I"],
    ) -> Float[Array, " S"]:
        """The prox of MMD: argmax over plans of `<x, gradient> - alpha KL(x, magnet) - KL(x, policy) / eta`.

        KL is the dilated one with infoset weights w_j. At infoset j this is `mmd.update.magnetic_step` with
        `eta / w_j` and `alpha w_j`, and q the gradient plus the children's values (MMD paper, App. C.3).

        Args:
            log_policy, log_magnet: [S] normalised log-policies.
            gradient: [S] payoff gradient with respect to the plan.
            eta: step size, in 1 / payoff units. alpha: regularization, in payoff units.
            weights: [I] infoset weights w_j > 0.
        """

        def rule(q: Array, w: Array, current: Array, magnet: Array) -> tuple[Array, Array]:
            step, value = magnetic_step(current, magnet, q, eta / w, alpha * w)
            return value, step

        return self.bottom_up(gradient, rule, infoset=(weights,), sequence=(log_policy, log_magnet))[1]

    @jax.jit
    def best_response(self, gradient: Float[Array, " S"]) -> tuple[Float[Array, ""], Float[Array, " S"]]:
        """`max_x <x, gradient>`, and the regret `V_ja - max_a' V_ja' <= 0` of every sequence (0 at the empty one)."""

        def rule(q: Array) -> tuple[Array, Array]:
            best = jnp.max(q, axis=-1)
            return best, q - best[:, None]

        return self.bottom_up(gradient, rule)

    @jax.jit
    def range_weights(self, bound: Float[Array, " S"]) -> Float[Array, " I"]:
        """Gradient range of every infoset: `w_j = max_a (bound_ja + sum of children's w)`, and never quite 0.

        As dilated-entropy weights these precondition the prox: a step of size eta moves the log-policy of every
        infoset by a comparable amount. All weights are 1 where the bound is 0 everywhere.

        Args:
            bound: [S] bound (>= 0) on the payoff gradient, e.g. |A| y.
        """
        floor = jnp.where(jnp.max(bound) > 0, SMALLEST_WEIGHT * jnp.max(bound), 1.0)

        def rule(q: Array) -> tuple[Array, Array]:
            weight = jnp.maximum(jnp.max(q, axis=-1), floor)
            return weight, weight

        return self.bottom_up(bound, rule)[1]

    def bregman(
        self,
        plan: Float[Array, " S"],
        log_policy: Float[Array, " S"],
        log_reference: Float[Array, " S"],
        weights: Float[Array, " S"] | None = None,
    ) -> Float[Array, ""]:
        """Dilated KL `sum_j w_j plan[parent(j)] KL(policy_j, reference_j)`, without cancellation near 0.

        Args:
            plan, log_policy: [S] the first argument, in both forms. Entries below 0 are in no plan: they give NaN.
            log_reference: [S] the second argument.
            weights: infoset weights, repeated over sequences; 1 if None.
        """
        terms = jnp.where(plan > 0, plan * exp_remainder(log_policy - log_reference), jnp.where(plan < 0, jnp.nan, 0.0))
        # A dot product, not a sum: XLA would fuse the terms into a scalar reduction loop and lose their vectorisation.
        return jnp.dot(jnp.ones_like(terms) if weights is None else weights, terms)

    def over_sequences(self, values: Float[Array, " I"]) -> Float[Array, " S"]:
        """Repeat a value per infoset over its sequences (0 at the empty one)."""
        if self._is_deep:
            return taken(values, self.owner).at[0].set(0.0)
        groups = [group for level in self.groups for group in level]
        return jnp.concatenate([jnp.zeros(1, values.dtype), *(self._spread(values[g.infosets], g) for g in groups)])

    @jax.jit
    def log_policy_of(self, plan: Float[Array, " S"], fallback: Float[Array, " S"]) -> Float[Array, " S"]:
        """Log behavioural policy of a plan, `log(plan[ja] / plan[parent(j)])`.

        Where the plan underflows (at or below 1e-290) the fallback stays, so that no infinity enters; every infoset is
        renormalised.
        """
        reach = self.over_sequences(taken(plan, self.parent))
        seen = plan > UNDERFLOW
        ratio = jnp.log(jnp.where(seen, plan, 1.0)) - jnp.log(jnp.where(seen, reach, 1.0))
        return self.normalized(jnp.where(seen, ratio, fallback))

    def normalized(self, logits: Float[Array, " S"]) -> Float[Array, " S"]:
        """Log-softmax at every infoset."""
        return self.at_infosets(masked_log_softmax, logits)

    def at_infosets(self, rule: Callable[[Array], Array], values: Float[Array, " S"]) -> Float[Array, " S"]:
        """`rule([n, A]) -> [n, A]` at every infoset by itself, 0 at the empty sequence; missing actions hold -inf."""
        if self._is_deep:
            return self._at_infosets_at_once(rule, values)
        groups = [group for level in self.groups for group in level]
        parts = [self._flat(self.by_rows(rule, self._rows(values, g, 0, -jnp.inf)), g) for g in groups]
        return jnp.concatenate([jnp.zeros(1, values.dtype), *parts])

    def uniform(self) -> Float[np.ndarray, " S"]:
        """Log of the uniform behavioural policy."""
        return np.concatenate([[0.0], np.repeat(-np.log(self.n_actions), self.n_actions)])

    @jax.jit
    def dilated_center(self) -> Float[Array, " S"]:
        """Log-policy that minimises the dilated entropy with unit weights: the magnet of MMD with psi as regularizer.

        At an infoset, actions with more decisions below them are likelier, so on a tree this is not the uniform policy.
        """

        def rule(q: Array) -> tuple[Array, Array]:
            step, value = magnetic_step(jnp.zeros_like(q), jnp.zeros_like(q), q, 1.0, 0.0)
            return value, step

        return self.bottom_up(jnp.zeros(self.n_sequences), rule)[1]

    # ---------------------------------------------------------------- the sweeps of host code: float64, not compiled

    def host_plan(self, policy: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """`top_down` of behavioural probabilities, which may be 0."""
        plan, parent, n_actions = np.array(policy, np.float64), np.asarray(self.parent), self.n_actions
        plan[0] = 1.0
        for infosets, sequences in in_spans(self.blocks):
            plan[sequences] *= np.repeat(plan[parent[infosets]], n_actions[infosets])
        return plan

    def host_best(
        self, gradient: Float[np.ndarray, " S"], raised: Float[np.ndarray, " I"] | None = None
    ) -> Float[np.ndarray, " J"]:
        """What a best response is worth, [1 + I]: `max_x <x, gradient>`, then at each infoset.

        Args:
            gradient: [S] payoff gradient with respect to the plan.
            raised: [I] what is added to the worth of each infoset; nothing if None.
        """
        q, parent, first = np.array(gradient, np.float64), np.asarray(self.parent), np.asarray(self.first_sequence)
        values = np.zeros(1 + self.n_infosets)
        for infosets, sequences in in_spans(self.blocks)[::-1]:
            best = np.maximum.reduceat(q[sequences], first[infosets] - sequences.start)
            best = best if raised is None else best + raised[infosets]
            values[1 + infosets.start : 1 + infosets.stop] = best
            np.add.at(q, parent[infosets], best)
        values[0] = q[0]
        return values

    # ---------------------------------------------------------------- a group as rows of actions, and back

    def _rows(self, values: Array, group: Group, start: int, missing: float) -> Array:
        """[n, A] of an array over sequences that begins at sequence `start`; padding holds `missing`."""
        if not group.padded:
            return values[group.sequences.start - start : group.sequences.stop - start].reshape(-1, group.n_actions)
        action = jnp.arange(group.n_actions, dtype=np.int32)[None]
        first = jnp.asarray(self.first_sequence)[group.infosets, None]
        last = jnp.append(first[1:, 0], group.sequences.stop)[:, None] - 1
        at = first + action
        return jnp.where(at <= last, taken(values, jnp.minimum(at, last) - start), missing)

    def _flat(self, rows: Array, group: Group) -> Array:
        """Rows [n, A] of a group back as an array over its sequences."""
        if not group.padded:
            return rows.reshape(-1)
        owner = jnp.asarray(self.owner)[group.sequences]
        action = jnp.arange(group.sequences.start, group.sequences.stop, dtype=np.int32)
        action -= taken(jnp.asarray(self.first_sequence), owner)
        return taken(rows.reshape(-1), (owner - group.infosets.start) * group.n_actions + action)

    def _spread(self, values: Array, group: Group) -> Array:
        """A value per infoset of a group, repeated over its sequences."""
        if not group.padded:
            return jnp.repeat(values, group.n_actions)
        return taken(values, jnp.asarray(self.owner)[group.sequences] - group.infosets.start)

    # ---------------------------------------------------------------- deep trees: the same as one loop over levels

    def _bottom_up_scanned(
        self, leaves: Array, rule: Rule, infoset: tuple[Array, ...], sequence: tuple[Array, ...]
    ) -> tuple[Array, Array]:
        """`bottom_up` over levels padded to one shape; missing actions carry -inf, missing infosets a lone action."""
        infosets, sequences = map(jnp.asarray, padded_levels(self.blocks))
        parent = jnp.append(jnp.asarray(self.parent), self.n_sequences)
        pad = [jnp.append(a, jnp.ones(1, a.dtype)) for a in infoset]
        pad_sequence = [jnp.append(a, jnp.zeros(1, a.dtype)) for a in sequence]
        legal = (sequences < self.n_sequences).at[:, :, 0].set(True)

        def level(values: Array, index: tuple[Array, Array, Array]) -> tuple[Array, Array]:
            of_infoset, of_sequence, exists = index
            q = jnp.where(exists, values[of_sequence], -jnp.inf)
            arrays = (q, *(a[of_infoset] for a in pad), *(a[of_sequence] for a in pad_sequence))
            value, output = self.by_rows(rule, *arrays)
            return values.at[parent[of_infoset]].add(value), output

        start = jnp.append(leaves, jnp.zeros(1, leaves.dtype))
        values, outputs = jax.lax.scan(level, start, (infosets, sequences, legal), reverse=True)
        per_sequence = outputs.ndim == sequences.ndim
        size, index = (self.n_sequences, sequences) if per_sequence else (self.n_infosets, infosets)
        joined = jnp.zeros(size + 1, outputs.dtype).at[index.reshape(-1)].set(outputs.reshape(-1))
        return values[0], joined[:-1]

    def _at_infosets_at_once(self, rule: Callable[[Array], Array], values: Array) -> Array:
        """`at_infosets` with all levels as rows of one array."""
        sequences = padded_levels(self.blocks)[1].reshape(-1, max(b.n_actions for b in self.blocks))
        sequences = jnp.asarray(sequences[sequences[:, 0] < self.n_sequences])
        rows = taken(jnp.append(values, -jnp.inf), sequences)
        flat = jnp.zeros(self.n_sequences + 1, values.dtype)
        return flat.at[sequences.reshape(-1)].set(self.by_rows(rule, rows).reshape(-1))[:-1].at[0].set(0.0)

    def _top_down_scanned(self, policy: Array) -> Array:
        """`top_down` as one loop over levels."""
        infosets, sequences = map(jnp.asarray, padded_levels(self.blocks))
        parent = jnp.append(jnp.asarray(self.parent), self.n_sequences)
        padded = jnp.append(policy, 0.0)

        def level(plan: Array, index: tuple[Array, Array]) -> tuple[Array, None]:
            of_infoset, of_sequence = index
            return plan.at[of_sequence].set(plan[parent[of_infoset]][:, None] * padded[of_sequence]), None

        start = jnp.zeros(self.n_sequences + 1, policy.dtype).at[0].set(1.0)
        return jax.lax.scan(level, start, (infosets, sequences))[0][:-1]

    def _level_start(self, level: int) -> int:
        """First sequence of a level; the level above the first holds the empty sequence alone."""
        return 0 if level < 0 else self.levels[level][0].first_sequence


class HostSweeps:
    """The sweeps of one treeplex for a loop on the host: what they need is worked out once. Float64, not compiled."""

    def __init__(self, treeplex: Treeplex) -> None:
        parent, first, owner = (np.asarray(a) for a in (treeplex.parent, treeplex.first_sequence, treeplex.owner))
        self.first, self.owner = first - 1, owner[1:]  # of arrays without the empty sequence
        self.even = np.repeat(1.0 / treeplex.n_actions, treeplex.n_actions)
        self.above = parent[owner] if len(parent) else owner
        self.levels: list[tuple[slice, slice, Any, slice, Any]] = []
        for infosets, sequences in in_spans(treeplex.blocks):
            hangs = parent[infosets]
            parents = slice(int(hangs.min()), int(hangs.max()) + 1)
            self.levels.append((infosets, sequences, first[infosets] - sequences.start, parents, hangs - parents.start))

    def plan(self, policy: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """`Treeplex.host_plan`."""
        plan = np.array(policy)
        plan[0] = 1.0
        for _, sequences, *_ in self.levels:
            plan[sequences] *= plan[self.above[sequences]]
        return plan

    def best(self, gradient: Float[np.ndarray, " S"]) -> float:
        """`max_x <x, gradient>` over plans."""
        q = np.array(gradient)
        for _, sequences, starts, parents, hangs in reversed(self.levels):
            worth = np.maximum.reduceat(q[sequences], starts)
            q[parents] += np.bincount(hangs, worth, parents.stop - parents.start)
        return float(q[0])

    def regrets(self, gradient: Float[np.ndarray, " S"], policy: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """Counterfactual regret `q_ja - <policy_j, q_j>` of every action, q as `Treeplex.bottom_up` folds it."""
        q, worth = np.array(gradient), np.empty(len(self.first))
        for infosets, sequences, starts, parents, hangs in reversed(self.levels):
            worth[infosets] = np.add.reduceat(policy[sequences] * q[sequences], starts)
            q[parents] += np.bincount(hangs, worth[infosets], parents.stop - parents.start)
        q[1:] -= worth[self.owner]
        q[0] = 0.0
        return q

    def proportional(self, weights: Float[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
        """Policy proportional to the positive part of the weights at every infoset; uniform where there is none."""
        policy = np.maximum(weights, 0.0)
        policy[0] = 1.0
        total = np.add.reduceat(policy[1:], self.first)[self.owner] if len(self.first) else policy[1:]
        policy[1:] = np.where(total > 0, policy[1:] / np.where(total > 0, total, 1.0), self.even)
        return policy
