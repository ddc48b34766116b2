"""A bidirectional LSTM that tags words: part-of-speech tagging.

Try it without a server:

    rafiki model test worker/rafiki/zoo/pos_tagger.py

On 160 of the sentences that it makes up, with 80 others each to validate and to test, `rafiki
job create --trials 6 --seed 1` took 3 minutes on a busy machine, most of it to compile. The best
tagger, trained in full, had accuracy 1.0 in both; the most frequent tag per word gives 0.70.

A token is described by five features: itself in small letters, its endings of one to three
letters, and its shape (capitals, digits, a hyphen); the last four tell tokens that are new. Cf.
Huang, Xu, Yu, "Bidirectional LSTM-CRF Models for Sequence Tagging" (2015), here without a CRF.

Minibatches hold sentences of about one length, padded to one of four, so that at most four
programs are compiled to train and four to predict. A longer sentence is cut into pieces, which
do not see each other. Programs differ by the sizes alone: trials of the same sizes share them.

Letters: B sentences of a minibatch, T tokens, F = 5 features, V known features, E and H units
of embedding and of each LSTM, C tags.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array, lax

from rafiki.model import (
    BaseModel,
    CategoricalKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    load_sentences,
    logger,
    query_tokens,
)
from rafiki.supernet import Pace, compute_dtype, on_devices, over_batch

LENGTHS = (16, 32, 64, 128)
ENDINGS = (1, 2, 3)
FEATURES = 2 + len(ENDINGS)
# A feature seen once teaches what an unknown one means.
MIN_COUNT = 2
MAX_FEATURES = 200_000
STEPS_PER_REPORT = 20
PREDICTION_BATCH = 64
PAD = -1
Sentences: TypeAlias = Sequence[Sequence[str]]


class Vocabulary:
    """Numbers for the features of tokens and for tags.

    Features 0 to F - 1 stand for all unknown ones, one for each kind.
    """

    def __init__(self, features: Sequence[str], tags: Sequence[str]) -> None:
        self.features, self.tags = list(features), list(tags)
        self._features = {feature: n for n, feature in enumerate(self.features, FEATURES)}

    @classmethod
    def build(cls, sentences: Sentences, tags: Sequence[str]) -> "Vocabulary":
        """The features that training sentences have at least twice, the most frequent first."""
        counts: Counter[str] = Counter()
        for token, count in Counter(itertools.chain.from_iterable(sentences)).items():
            counts.update(dict.fromkeys(token_features(token), count))
        ranked = sorted(counts, key=lambda feature: (-counts[feature], feature))
        known = [feature for feature in ranked if counts[feature] >= MIN_COUNT]
        return cls(known[:MAX_FEATURES], tags)

    def numbers(self, token: str) -> list[int]:
        """Of the `F` features of a token."""
        features = enumerate(token_features(token))
        return [self._features.get(feature, kind) for kind, feature in features]

    def tensors(self) -> dict[str, np.ndarray]:
        """UTF-8 text in uint8, one feature or tag per line."""
        return {
            f"vocabulary/{name}": np.frombuffer("\n".join(texts).encode(), np.uint8).copy()
            for name, texts in (("features", self.features), ("tags", self.tags))
        }

    @classmethod
    def from_tensors(cls, params: Params) -> "Vocabulary":
        """What `tensors` were made of."""
        texts = (params[f"vocabulary/{name}"].tobytes().decode() for name in ("features", "tags"))
        features, tags = (text.split("\n") if text else [] for text in texts)
        return cls(features, tags)


def token_features(token: str) -> list[str]:
    """The `F` features of a token; each begins with the number of its kind."""
    small = token.lower()
    shape = "A" * token[:1].isupper() + "AA" * token.isupper() + "-" * ("-" in token)
    shape += "9" * any(letter.isdigit() for letter in token)
    texts = (small, *(small[-length:] for length in ENDINGS), shape)
    return [f"{kind}{text}" for kind, text in enumerate(texts)]


class Tagger(nnx.Module):
    """Embeddings, an LSTM in each direction, a linear layer; parameters are float32."""

    def __init__(self, features: int, tags: int, embedding: int, hidden: int, seed: int) -> None:
        rngs, dtype = nnx.Rngs(seed), compute_dtype()
        self.embed = nnx.Embed(features, embedding, dtype=dtype, rngs=rngs)
        self.gates = nnx.Linear(FEATURES * embedding, 8 * hidden, dtype=dtype, rngs=rngs)
        orthogonal = nnx.initializers.orthogonal()
        kernels = [orthogonal(rngs.params(), (hidden, 4 * hidden)) for _ in range(2)]
        self.recurrent = nnx.Param(jnp.stack(kernels))
        self.head = nnx.Linear(2 * hidden, tags, dtype=dtype, rngs=rngs)

    def __call__(
        self, features: Array, lengths: Array, dropout: Array | float, key: Array | None
    ) -> Array:
        """The scores of tags, float32 `[B, T, C]`, of features int32 `[B, T, F]`.

        `lengths` int32 `[B]` are those of the sentences; what follows them changes no score in
        them. `key` draws what is left out, a share of `dropout` before the LSTMs and before the
        head; None leaves nothing out.
        """
        x = self.embed(features).reshape(*features.shape[:2], -1)
        kept = [jnp.ones((), x.dtype)] * 2
        if key is not None:
            # One draw for both: half the time to compile.
            shape = (*x.shape[:2], x.shape[2] + self.head.in_features)
            drawn = jax.random.bernoulli(key, 1 - dropout, shape) / (1 - dropout)
            kept = jnp.split(drawn.astype(x.dtype), [x.shape[2]], axis=2)
        x = self._lstm(self.gates(x * kept[0]), lengths)
        scores: Array = self.head(x * kept[1])
        return scores.astype(jnp.float32)

    def _lstm(self, gates: Array, lengths: Array) -> Array:
        """`[B, T, 2H]` of the inputs' share of the gates `[B, T, 8H]`; both directions at once."""
        batch, length, _ = gates.shape
        kernel = self.recurrent[...].astype(gates.dtype)
        # From the last token of a sentence to its first, then the padding; its own inverse.
        back = (lengths[:, None] - 1 - jnp.arange(length)) % length
        forth, reverse = jnp.split(gates, 2, axis=2)
        reverse = jnp.take_along_axis(reverse, back[..., None], axis=1)
        steps = jnp.stack([forth, reverse]).transpose(2, 0, 1, 3)

        def step(carry: tuple[Array, Array], inputs: Array) -> tuple[tuple[Array, Array], Array]:
            cell, hidden = carry
            sums = inputs + jnp.einsum("dbh,dhg->dbg", hidden, kernel)
            i, f, g, o = jnp.split(sums.astype(jnp.float32), 4, axis=2)
            # Forget gates begin open: Jozefowicz et al., ICML 2015.
            cell = nnx.sigmoid(f + 1) * cell + nnx.sigmoid(i) * jnp.tanh(g)
            hidden = (nnx.sigmoid(o) * jnp.tanh(cell)).astype(inputs.dtype)
            return (cell, hidden), hidden

        start = jnp.zeros((2, batch, kernel.shape[1]))
        _, states = lax.scan(step, (start, start.astype(gates.dtype)), steps)
        forth, reverse = states.transpose(1, 2, 0, 3)
        reverse = jnp.take_along_axis(reverse, back[..., None], axis=1)
        return jnp.concatenate([forth, reverse], axis=2)


class Bucket(NamedTuple):
    """Pieces of sentences, padded to one length.

    features int32 `[N, T, F]`, tags int32 `[N, T]` (`PAD` is not counted), lengths int32 `[N]`.
    The last piece has no tokens: it fills minibatches up.
    """

    features: np.ndarray | Array
    tags: np.ndarray | Array
    lengths: np.ndarray | Array


class State(NamedTuple):
    """What training changes."""

    params: nnx.State[str, object]
    optimizer: optax.OptState


OPTIMIZER = optax.chain(optax.clip_by_global_norm(1.0), optax.scale_by_adam())


@functools.partial(jax.jit, static_argnames="graph", donate_argnames="state")
def train_step(
    graph: nnx.GraphDef[Tagger],
    state: State,
    bucket: Bucket,
    chosen: Array,
    rates: tuple[float, float],
    key: Array,
    step: int,
) -> tuple[State, Array]:
    """The state after a minibatch, and the mean loss per token.

    `chosen` `[B]` are pieces of the bucket; `rates` those of learning and of dropout; `key` and
    `step` draw what is left out.
    """
    batch = jax.tree.map(lambda values: values[chosen], bucket)
    drawn = jax.random.fold_in(key, step)

    def loss_of(params: nnx.State[str, object]) -> Array:
        scores = nnx.merge(graph, params)(batch.features, batch.lengths, rates[1], drawn)
        losses = optax.softmax_cross_entropy_with_integer_labels(scores, jnp.maximum(batch.tags, 0))
        counted = batch.tags != PAD
        return jnp.sum(losses, where=counted) / jnp.maximum(jnp.sum(counted), 1)

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    updates, optimizer = OPTIMIZER.update(grads, state.optimizer, state.params)
    updates = jax.tree.map(lambda update: -rates[0] * update, updates)
    return State(optax.apply_updates(state.params, updates), optimizer), loss


@functools.partial(jax.jit, static_argnames="graph")
def best_tags(
    graph: nnx.GraphDef[Tagger], params: nnx.State[str, object], features: Array, lengths: Array
) -> Array:
    """The tags with the highest scores, int32 `[B, T]`."""
    return jnp.argmax(nnx.merge(graph, params)(features, lengths, 0.0, None), axis=2)


class PosTagger(BaseModel):
    """A BiLSTM tagger whose sizes, dropout, learning rate and epochs are tuned."""

    task = "POS_TAGGING"
    dependencies: ClassVar[Mapping[str, str]] = {p: version(p) for p in ("flax", "jax", "optax")}

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "embedding_units": CategoricalKnob([16, 32, 64]),
            "hidden_units": CategoricalKnob([32, 64, 128]),
            "learning_rate": FloatKnob(1e-3, 3e-2, is_exp=True),
            "dropout": FloatKnob(0.0, 0.5),
            "batch_size": CategoricalKnob([8, 16, 32]),
            "epochs": IntegerKnob(4, 20),
            "share_params": PolicyKnob("SHARE_PARAMS"),
            "early_stop": PolicyKnob("EARLY_STOP"),
        }

    def __init__(
        self,
        *,
        embedding_units: int,
        hidden_units: int,
        learning_rate: float,
        dropout: float,
        batch_size: int,
        epochs: int,
        share_params: bool,
        early_stop: bool,
    ) -> None:
        super().__init__()
        self._units = (embedding_units, hidden_units)
        self._learning_rate, self._dropout = learning_rate, dropout
        self._batch_size, self._share_params = batch_size, share_params
        # With EARLY_STOP a quarter of the epochs must do to tell good knobs from bad ones.
        self._epochs = max(1, epochs // 4) if early_stop else epochs
        # Once trained or loaded:
        self._vocabulary: Vocabulary
        self._graph: nnx.GraphDef[Tagger]
        self._params: nnx.State[str, object]

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        data = load_sentences(dataset_path)
        self._build(Vocabulary.build(data.tokens, data.tag_names), self.seed)
        if self._share_params and shared_params is not None:
            shared, known = Vocabulary.from_tensors(shared_params), self._vocabulary
            # Elsewhere the rows stand for other features and tags.
            if (shared.features, shared.tags) == (known.features, known.tags):
                self._set(shared_params, skip_misfits=True)
        found = _buckets(data.tokens, data.tags, self._vocabulary)
        buckets = [jax.tree.map(on_devices, bucket) for bucket, _ in found]
        state = jax.tree.map(on_devices, State(self._params, OPTIMIZER.init(self._params)))
        key, rng = on_devices(jax.random.key(self.seed)), np.random.default_rng(self.seed)
        pace = Pace()
        logger.define_plot("Training loss", ["loss"], "step")
        for epoch in range(self._epochs):
            losses: list[Array] = []
            batches = self._minibatches(buckets, rng)
            for step, (bucket, chosen) in enumerate(batches):
                share = (epoch + step / len(batches)) / self._epochs
                rates = (self._learning_rate * (1 - share), self._dropout)
                drawn = epoch * len(batches) + step
                state, loss = train_step(self._graph, state, bucket, chosen, rates, key, drawn)
                self._params = state.params  # Those before were donated.
                losses.append(loss)
                if (step + 1) % STEPS_PER_REPORT == 0:
                    loss.block_until_ready()  # Progress must not run ahead of training.
                    if logger.progress(share):
                        return
            lap = pace.lap(len(data.tokens))
            mean = np.mean(jax.device_get(losses))
            logger.log(step=epoch + 1, loss=mean, **lap)
            if logger.progress((epoch + 1) / self._epochs):
                return

    def evaluate(self, dataset_path: str) -> float:
        """The share of tokens whose tag is right."""
        data = load_sentences(dataset_path)
        tags, found = (itertools.chain(*rows) for rows in (data.tags, self._tag(data.tokens)))
        return float(np.mean([tag == best for tag, best in zip(tags, found, strict=True)]))

    def predict(self, queries: list[object]) -> list[object]:
        """The list of tags of each query, one per token."""
        return list(self._tag(query_tokens(queries)))

    def dump_parameters(self) -> dict[str, np.ndarray]:
        state = nnx.to_flat_state(self._params)
        tensors = {"/".join(map(str, path)): np.array(variable[...]) for path, variable in state}
        return tensors | self._vocabulary.tensors()

    def load_parameters(self, params: Params) -> None:
        self._build(Vocabulary.from_tensors(params), seed=0)
        self._set(params, skip_misfits=False)

    def _build(self, vocabulary: Vocabulary, seed: int) -> None:
        self._vocabulary = vocabulary
        sizes = (FEATURES + len(vocabulary.features), len(vocabulary.tags), *self._units)
        self._graph, self._params = nnx.split(Tagger(*sizes, seed), nnx.Param)

    def _set(self, params: Params, *, skip_misfits: bool) -> None:
        for path, variable in nnx.to_flat_state(self._params):
            name = "/".join(map(str, path))
            if name in params and params[name].shape == variable.shape:
                variable[...] = jnp.array(params[name])
            elif not skip_misfits:
                raise ValueError(f"there is no {name} of size {variable.shape}: other knobs?")

    def _minibatches(
        self, buckets: Sequence[Bucket], rng: np.random.Generator
    ) -> list[tuple[Bucket, Array]]:
        """Every piece once, in random order: buckets, and pieces `[B]` of each."""
        placement = over_batch(self._batch_size)
        batches = [
            (bucket, jax.device_put(chosen, placement))
            for bucket in buckets
            for chosen in _rows(rng.permutation(len(bucket.lengths) - 1), self._batch_size)
        ]
        return [batches[number] for number in rng.permutation(len(batches))]

    def _tag(self, sentences: Sentences) -> list[list[str]]:
        """The tags of sentences."""
        tags = [[""] * len(sentence) for sentence in sentences]
        placement = over_batch(PREDICTION_BATCH)
        params = jax.tree.map(on_devices, self._params)
        for bucket, pieces in _buckets(sentences, None, self._vocabulary):
            for chosen in _rows(np.arange(len(pieces)), PREDICTION_BATCH):
                inputs = (bucket.features[chosen], bucket.lengths[chosen])
                best = best_tags(self._graph, params, *jax.device_put(inputs, placement))
                for number, numbers in zip(chosen, np.asarray(best), strict=True):
                    if number >= 0:
                        sentence, part = pieces[number]
                        names = [self._vocabulary.tags[tag] for tag in numbers]
                        tags[sentence][part] = names[: part.stop - part.start]
        return tags


def _buckets(
    sentences: Sentences, tags: Sentences | None, vocabulary: Vocabulary
) -> list[tuple[Bucket, list[tuple[int, slice]]]]:
    """Per padded length, its pieces; and of each, the number of its sentence and which part."""
    numbers = {token: vocabulary.numbers(token) for token in {t for s in sentences for t in s}}
    tag_numbers = {tag: number for number, tag in enumerate(vocabulary.tags)}
    pieces: dict[int, list[tuple[int, slice]]] = {}
    for number, sentence in enumerate(sentences):
        for start in range(0, len(sentence), LENGTHS[-1]):
            end = min(start + LENGTHS[-1], len(sentence))
            padded = next(length for length in LENGTHS if end - start <= length)
            pieces.setdefault(padded, []).append((number, slice(start, end)))
    buckets = []
    for padded, found in pieces.items():
        features = np.zeros((len(found) + 1, padded, FEATURES), np.int32)
        labels = np.full((len(found) + 1, padded), PAD, np.int32)
        lengths = np.array([part.stop - part.start for _, part in found] + [0], np.int32)
        for row, (number, part) in enumerate(found):
            inside = (row, slice(lengths[row]))
            features[inside] = [numbers[token] for token in sentences[number][part]]
            if tags is not None:
                labels[inside] = [tag_numbers[tag] for tag in tags[number][part]]
        buckets.append((Bucket(features, labels, lengths), found))
    return buckets


def _rows(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Numbers of pieces in rows of one size; -1, the last piece, fills the last row up."""
    for start in range(0, len(order), size):
        row = order[start : start + size]
        yield np.pad(row, (0, size - len(row)), constant_values=-1).astype(np.int32)
