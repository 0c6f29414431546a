"""How far each dimension of the code stands for one known factor: five scores, each by its own paper.

Codes and factors come as arrays, a row for each example, so that every score can be taken by hand. Factors are class
numbers; those that have one class only in the rows at hand are no factors of them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, mutual_info_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor

from elboroom.distributions import Diagonal
from elboroom.errors import InputError
from elboroom.evaluation.density import finite
from elboroom.evaluation.information import by_dimension, pieces, posteriors
from elboroom.evaluation.subject import Found, Subject
from elboroom.numerics import seed_for
from elboroom.scores import Score

INACTIVE = 0.01
"""Variance of a code's dimension up to which it carries nothing, as for active units (Burda et al. 2016)."""
BINS = 20
DEPTHS = (2, 4, 8, 16)


@dataclass(frozen=True)
class Known:
    """Codes with the class numbers of their known factors, and the names and values of these."""

    code: Float[np.ndarray, "n latent"]
    factors: Integer[np.ndarray, "n f"]
    names: tuple[str, ...]
    values: Float[np.ndarray, "n f"]  # what the class numbers stand for

    def first(self, count: int, order: Integer[np.ndarray, " n"]) -> "Known":
        """So many rows, the first of an order."""
        rows = order[:count]
        return Known(self.code[rows], self.factors[rows], self.names, self.values[rows])


# Mutual information gap ---------------------------------------------------------------------------------------------


def entropies(factors: Integer[np.ndarray, "n f"]) -> Float[np.ndarray, " f"]:
    """Entropy of each factor's classes in these rows (nats)."""
    shares = [np.unique(column, return_counts=True)[1] / len(column) for column in factors.T]
    return np.array([-(p * np.log(p)).sum() for p in shares])


def binned_information(
    code: Float[np.ndarray, "n latent"], factors: Integer[np.ndarray, "n f"], bins: int = BINS
) -> Float[np.ndarray, "latent f"]:
    """I(z_j; v_k) in nats from counts, each dimension of the code in equal bins between its extremes.

    The estimator of Locatello et al. (2019), arXiv:1811.12359, for codes without a density. Too large by about
    (bins - 1)(classes - 1) / 2n, in every dimension alike; at most log bins, which keeps MIG below 1 where a factor has
    more classes.
    """
    cut = [np.digitize(z, np.histogram_bin_edges(z, bins)[1:-1]) for z in code.T]
    return np.array([[mutual_info_score(v, b) for v in factors.T] for b in cut])


def posterior_information(
    q: Diagonal, z: Float[Tensor, "n latent"], factors: Integer[Tensor, "n f"]
) -> Float[np.ndarray, "latent f"]:
    r"""I(z_j; v_k) in nats from the posteriors themselves, at one code of each example.

    .. math:: \mathbb{E}\Big[\log \frac{\frac{1}{|X_v|}\sum_{n \in X_v} q(z_j | x_n)}{\frac1N\sum_n q(z_j | x_n)}\Big]

    with :math:`X_v` the examples that share the value v of factor k. Chen et al. (2018), arXiv:1802.04942, section 4.1
    and its appendix. Of the mixture of these N posteriors; for a population too large where few examples share a value.
    """
    each, total = by_dimension(q), torch.zeros(z.shape[1], factors.shape[1], dtype=torch.float64, device=z.device)
    for rows in pieces(len(z), len(z), z.shape[1]):
        log_q = each.log_prob(z[rows, None, :, None].expand(-1, len(z), -1, -1))  # [rows, n, latent]
        same = (factors[rows, None] == factors).double()  # [rows, n, f]
        largest = log_q.amax(1, keepdim=True)
        shared = torch.einsum("rnd,rnf->rdf", (log_q - largest).exp(), same) / same.sum(1)[:, None]
        together = torch.logsumexp(log_q, 1) - math.log(len(z)) - largest[:, 0]
        total += (shared.log() - together[..., None]).sum(0)
    return (total / len(z)).cpu().numpy()


def gap(table: Float[np.ndarray, "latent f"]) -> Float[np.ndarray, " f"]:
    """For each factor, by how much the best dimension is ahead of the second; of a single one, what it has."""
    ranked = np.sort(table, axis=0)[::-1]
    return ranked[0] - (ranked[1] if len(ranked) > 1 else 0)


def mig(information: Float[np.ndarray, "latent f"], entropy: Float[np.ndarray, " f"]) -> float:
    r"""Mutual information gap: :math:`\frac1F \sum_k (I(z_{j(k)}; v_k) - \max_{j \ne j(k)} I(z_j; v_k)) / H(v_k)`.

    Chen et al. (2018), arXiv:1802.04942, section 4.1. Between 0 and 1: 0 where two dimensions tell the same of a
    factor, however well.
    """
    return float((gap(information) / entropy).mean())


# Disentanglement, completeness, informativeness ---------------------------------------------------------------------


def forest_importance(
    train: Known, test: Known, *, trees: int = 20, seed: int = 0
) -> tuple[Float[np.ndarray, "latent f"], Float[np.ndarray, " f"]]:
    """Importance of each dimension to a random forest that tells each factor's class, and its accuracy on ``test``.

    Of the depths 2, 4, 8 and 16 each factor takes the one that does best on the last quarter of ``train``. All
    dimensions are looked at in every split: where a random few are, noise gets a share in the importance.
    """
    importance, accuracy = [], []
    for column, truth in zip(train.factors.T, test.factors.T, strict=True):
        forest = best_forest(train.code, column, trees=trees, seed=seed)
        importance.append(forest.feature_importances_)
        accuracy.append(forest.score(test.code, truth))
    return np.stack(importance, axis=1), np.array(accuracy)


def best_forest(
    code: Float[np.ndarray, "n latent"], classes: Integer[np.ndarray, " n"], *, trees: int, seed: int
) -> RandomForestClassifier:
    """The forest of the depth that does best on the last quarter, learned from the rest."""
    cut = max(1, len(code) * 3 // 4)
    forests = [RandomForestClassifier(trees, max_depth=d, max_features=None, random_state=seed) for d in DEPTHS]
    return max((f.fit(code[:cut], classes[:cut]) for f in forests), key=lambda f: f.score(code[cut:], classes[cut:]))


def _concentration(shares: Float[np.ndarray, "rows many"]) -> Float[np.ndarray, " rows"]:
    """1 - entropy of each row to the base of its length: 1 where one entry has all, 0 where all have the same."""
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return 1 + (shares * logs).sum(1) / math.log(shares.shape[1])


def _normalized(
    rows: Float[np.ndarray, "rows many"],
) -> tuple[Float[np.ndarray, "used many"], Float[np.ndarray, " used"]]:
    """The rows that hold anything, each divided by its sum, and these sums."""
    sums = rows.sum(1)
    return rows[sums > 0] / sums[sums > 0, None], sums[sums > 0]


def disentanglement_of(importance: Float[np.ndarray, "latent f"]) -> float:
    r"""D: how far each dimension matters to one factor only, :math:`\sum_j \rho_j (1 - H_F(P_j))`.

    :math:`P_j` is row j divided by its sum, :math:`\rho_j` the share of that sum in all, :math:`H_F` the entropy to the
    base of the number of factors. Eastwood & Williams (2018), section 2. A dimension that matters to none has no
    weight; 0 where none matters.
    """
    shares, sums = _normalized(importance)
    return float(np.average(_concentration(shares), weights=sums)) if len(sums) else 0.0


def completeness_of(importance: Float[np.ndarray, "latent f"]) -> float:
    r"""C: how far each factor needs one dimension only, the mean of :math:`1 - H_D(\tilde P_k)` over factors.

    :math:`\tilde P_k` is column k divided by its sum, the entropy to the base of the number of dimensions. Eastwood &
    Williams (2018), section 2. A factor to which nothing matters counts 0. A code of one dimension is complete.
    """
    if len(importance) == 1:
        return float((importance.sum(0) > 0).mean())
    shares, _ = _normalized(importance.T)
    return float(_concentration(shares).sum() / importance.shape[1]) if len(shares) else 0.0


# Separated attribute predictability ---------------------------------------------------------------------------------


def predictability(known: Known, categorical: Bool[np.ndarray, " f"]) -> Float[np.ndarray, "latent f"]:
    """How well each dimension alone predicts each factor: R² of a line, or the balanced accuracy of thresholds.

    Thresholds (for a factor whose values are ``categorical``) are those of a tree with as many leaves as classes, on
    the rows it is scored on, as in the paper. A dimension that does not vary (variance up to 0.01) predicts nothing: 0.
    Kumar et al. (2018), arXiv:1711.00848, section 3.
    """
    table = np.zeros((known.code.shape[1], known.factors.shape[1]))
    for j in np.flatnonzero(known.code.var(0) > INACTIVE):
        for k, by_class in enumerate(categorical):
            z = known.code[:, j]
            table[j, k] = _thresholds(z, known.factors[:, k]) if by_class else _line(z, known.values[:, k])
    return table


def _line(z: Float[np.ndarray, " n"], value: Float[np.ndarray, " n"]) -> float:
    return float(np.corrcoef(z, value)[0, 1] ** 2)


def _thresholds(z: Float[np.ndarray, " n"], classes: Integer[np.ndarray, " n"]) -> float:
    leaves = len(np.unique(classes))
    tree = DecisionTreeClassifier(max_leaf_nodes=leaves, class_weight="balanced", random_state=0)
    guessed = tree.fit(z[:, None], classes).predict(z[:, None])
    return float(balanced_accuracy_score(classes, guessed))


def sap(table: Float[np.ndarray, "latent f"]) -> float:
    """The mean over factors of how far the best dimension is ahead of the second in `predictability`.

    Kumar et al. (2018), arXiv:1711.00848, section 3. At most 1; of a categorical factor at most 1 - 1/classes, since
    the second dimension guesses at the least, unless it does not vary.
    """
    return float(gap(table).mean())


# Rows that share a factor -------------------------------------------------------------------------------------------


class Sharing:
    """Rows by the value that they have in each factor; values of one row only are never drawn.

    Args:
        factors: class numbers of the rows.

    Raises:
        InputError: a factor of which no two rows share a value.
    """

    def __init__(self, factors: Integer[np.ndarray, "n f"]) -> None:
        self.groups: list[list[np.ndarray]] = []
        for k, column in enumerate(factors.T):
            found = [np.flatnonzero(column == value) for value in np.unique(column)]
            self.groups.append([rows for rows in found if len(rows) > 1])
            if not self.groups[-1]:
                raise InputError(f"no two examples share a value of factor {k}. Evaluate more examples.")

    def batch(self, k: int, size: int, random: np.random.Generator) -> Integer[np.ndarray, " size"]:
        """Rows with the same value of factor k, drawn with replacement; each value is as likely."""
        group = self.groups[k][random.integers(len(self.groups[k]))]
        return group[random.integers(len(group), size=size)]

    def pairs(self, k: int, size: int, random: np.random.Generator) -> Integer[np.ndarray, "two size"]:
        """Pairs of two rows, each pair with a value of factor k of its own that its two rows share."""
        chosen = random.integers(len(self.groups[k]), size=size)
        counts = np.array([len(self.groups[k][c]) for c in chosen])
        first = random.integers(counts)
        second = (first + 1 + random.integers(counts - 1)) % counts
        return np.array([[self.groups[k][c][i] for c, i in zip(chosen, at, strict=True)] for at in (first, second)])


# FactorVAE and β-VAE ------------------------------------------------------------------------------------------------


def vote(
    known: Known, count: int, size: int, random: np.random.Generator
) -> tuple[Integer[np.ndarray, " count"], Integer[np.ndarray, " count"]]:
    """For each of ``count`` batches that share a random factor: the dimension that varies least in it, and the factor.

    Variances are divided by those over all rows. A dimension that does not vary (variance up to 0.01) is never the
    least; where none varies, dimension 0 is named.
    """
    variance, sharing = known.code.var(0, ddof=1), Sharing(known.factors)
    active = variance > INACTIVE
    factor = random.integers(known.factors.shape[1], size=count)
    spread = np.full((count, len(variance)), np.inf)
    for i, k in enumerate(factor.tolist()):
        batch = known.code[sharing.batch(k, size, random)][:, active]
        spread[i, active] = batch.var(0, ddof=1) / variance[active]
    return spread.argmin(1), factor


def factorvae(train: Known, test: Known, *, count: int, size: int, random: np.random.Generator) -> float:
    """Accuracy on ``test`` of the majority vote, learned on ``train``, from the dimension that varies least in a batch
    to the factor that the batch shares.

    Kim & Mnih (2018), arXiv:1802.05983, section 4. Chance is 1 / factors. A factor that two dimensions carry costs
    nothing: it measures modularity.
    """
    least, factor = vote(train, count, size, random)
    table = np.zeros((train.code.shape[1], train.factors.shape[1]), dtype=np.int64)
    np.add.at(table, (least, factor), 1)
    least, factor = vote(test, count, size, random)
    return float((table.argmax(1)[least] == factor).mean())


def differences(
    known: Known, count: int, size: int, random: np.random.Generator
) -> tuple[Float[np.ndarray, "count latent"], Integer[np.ndarray, " count"]]:
    r"""For each of ``count`` sets of pairs that share a random factor: mean :math:`|z - z'|` over its pairs, and it."""
    sharing = Sharing(known.factors)
    factor = random.integers(known.factors.shape[1], size=count)
    means = []
    for k in factor.tolist():
        first, second = sharing.pairs(k, size, random)
        means.append(np.abs(known.code[first] - known.code[second]).mean(0))
    return np.stack(means), factor


def betavae(train: Known, test: Known, *, count: int, size: int, random: np.random.Generator) -> float:
    """Accuracy on ``test`` of a linear classifier, learned on ``train``, that tells from the mean absolute difference
    of codes which factor the pairs share.

    Higgins et al. (2017), "beta-VAE", section 3. Chance is 1 / factors. Its classifier sees all dimensions, so a
    rotated or doubled code costs little.
    """
    seen, factor = differences(train, count, size, random)
    if len(np.unique(factor)) < 2:
        raise InputError("all sets of pairs share one factor. Take more votes.")
    linear = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=2000))
    return float(linear.fit(seen, factor).score(*differences(test, count, size, random)))


# A run --------------------------------------------------------------------------------------------------------------


def known_of(subject: Subject, code: str, split: str) -> Known:
    """The codes of a split with the factors that vary in the scored one.

    Raises:
        InputError: data without factors, or with fewer than two; codes that are not finite.
    """
    scored, examples = subject.data.splits()[subject.split], subject.data.splits()[split]
    if scored.factors is None or examples.factors is None:
        raise InputError(
            f"data '{subject.data.title}' has no known factors, against which disentanglement is measured. "
            "Train on data that has (--data.name sprites), or leave the metric out."
        )
    varied = [k for k, column in enumerate(scored.factors.T) if len(column.unique()) > 1]
    if len(varied) < 2:
        raise InputError(
            f"data '{subject.data.title}' has {len(varied)} factor that varies, and disentanglement is about 2 at the "
            "least. Train on data that has them (--data.name sprites), or leave the metric out."
        )
    factors = examples.factors.cpu().numpy()[:, varied]
    table = subject.data.factors or {str(k): () for k in range(scored.factors.shape[1])}
    names = [list(table)[k] for k in varied]
    values = [np.array(table[n])[v] if table[n] else v for n, v in zip(names, factors.T, strict=True)]
    numbers = finite(subject.code(code, split)).double().numpy()
    return Known(numbers, factors, tuple(names), np.stack(values, axis=1).astype(np.float64))


@dataclass(frozen=True)
class _Question:
    """What every score of one run is taken from."""

    subject: Subject
    train: Known
    test: Known
    bins: int
    posterior: bool
    trees: int
    count: int
    size: int
    categorical: tuple[str, ...]

    @property
    def learned(self) -> str:
        """What votes and classifiers are learned from, in words."""
        return f"learned from as many of {len(self.train.code):,} training images"

    def random(self, purpose: str) -> np.random.Generator:
        return np.random.Generator(np.random.PCG64(seed_for(0, purpose)))


Answer = tuple[dict[str, float], str, dict[str, np.ndarray]]
"""Scores by the end of their name, the estimator, and tables [latent, f] by name."""


def _mig(asked: _Question) -> Answer:
    test, how = asked.test, f"code in {asked.bins} bins"
    if asked.posterior:
        table, how = _of_posteriors(asked.subject, test.factors), "mixtures of posteriors"
    else:
        table = binned_information(test.code, test.factors, asked.bins)
    return {"mig": mig(table, entropies(test.factors))}, how, {"information": table}


def _of_posteriors(subject: Subject, factors: Integer[np.ndarray, "n f"]) -> Float[np.ndarray, "latent f"]:
    q = posteriors(subject)
    z = subject.codes().z.double()
    return posterior_information(q, z.to(q.loc.device), torch.from_numpy(factors).to(q.loc.device))


def _dci(asked: _Question) -> Answer:
    table, accuracy = forest_importance(asked.train, asked.test, trees=asked.trees)
    found = {
        "dci-disentanglement": disentanglement_of(table),
        "dci-completeness": completeness_of(table),
        "dci-informativeness": float(accuracy.mean()),
    }
    learned = f"learned from three quarters of {len(asked.train.code):,}, depth by the rest"
    how = f"random forests of {asked.trees} trees, {learned}; informativeness: accuracy"
    return found, how, {"importance": table}


def _sap(asked: _Question) -> Answer:
    by_class = np.array([name in asked.categorical for name in asked.test.names])
    table = predictability(asked.test, by_class)
    named = ", ".join(n for n in asked.test.names if n in asked.categorical) or "none"
    return {"sap": sap(table)}, f"R²; thresholds for categories: {named}", {"predictability": table}


def _factorvae(asked: _Question) -> Answer:
    random = asked.random("factorvae")
    value = factorvae(asked.train, asked.test, count=asked.count, size=asked.size, random=random)
    return {"factorvae": value}, f"{asked.count:,} votes of {asked.size} rows of the split, {asked.learned}", {}


def _betavae(asked: _Question) -> Answer:
    random = asked.random("betavae")
    value = betavae(asked.train, asked.test, count=asked.count, size=asked.size, random=random)
    return {"betavae": value}, f"{asked.count:,} sets of {asked.size} pairs of rows of the split, {asked.learned}", {}


MEASURES: dict[str, Callable[[_Question], Answer]] = {
    "mig": _mig,
    "dci": _dci,
    "sap": _sap,
    "factorvae": _factorvae,
    "betavae": _betavae,
}


def disentanglement(
    subject: Subject,
    *,
    measures: Sequence[str] = tuple(MEASURES),
    code: str = "mean",
    information: str = "posterior",
    bins: int = BINS,
    images: int = 10_000,
    trees: int = 20,
    votes: int = 800,
    rows: int = 64,
    categorical: Sequence[str] = ("shape",),
) -> Found:
    """Scores of how far the dimensions of the code stand for single known factors, higher is better.

    Batches and pairs that share a factor are rows of the split that do: nothing is drawn anew. What is learned
    (forests, majority votes, linear classifiers) is learned from training images and scored on the split.

    Args:
        subject: what is looked at; its data have known factors.
        measures: which.
        code: which code they read; MIG from posteriors reads one sample of each.
        information: of MIG: ``posterior``, as in its paper, or ``bins`` of the code; a posterior without a density has
            bins only.
        bins: of the code.
        images: training images to learn from at most, the first of a fixed permutation.
        trees: of each forest of DCI.
        votes: of FactorVAE and β-VAE, for learning and for scoring each.
        rows: of each vote; pairs, for β-VAE.
        categorical: names of factors whose values have no order, for SAP.

    Raises:
        InputError: data without known factors.
    """
    test, whole = known_of(subject, code, subject.split), known_of(subject, code, "train")
    train = whole.first(images, subject.permutation(len(whole.code), "disentanglement").numpy())
    posterior = information == "posterior" and _has_density(subject)
    asked = _Question(subject, train, test, bins, posterior, trees, votes, rows, tuple(categorical))
    scores, tables = [], {}
    for done, measure in enumerate(measures):
        subject.progress("disentanglement", done, len(measures))
        values, how, arrays = MEASURES[measure](asked)
        read = "z" if measure == "mig" and posterior else code
        scores += [
            _score(subject, name, value, len(test.code), estimator=how, code=read) for name, value in values.items()
        ]
        tables |= {name: torch.from_numpy(np.ascontiguousarray(table)) for name, table in arrays.items()}
    return Found(scores, arrays={"disentanglement": tables} if tables else {})


def _has_density(subject: Subject) -> bool:
    try:
        posteriors(subject)
    except InputError:
        return False
    return True


def _score(subject: Subject, name: str, value: float, examples: int, **held: Any) -> Score:
    return Score(
        name=f"disentanglement/{name}",
        value=value,
        unit="",
        better="higher",
        examples=examples,
        protocol=subject.code_protocol(**held),
    )
