from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from isost._tools.domain_graph import connectivities, contact_shares, contacts


def test_contacts_of_a_line_by_hand() -> None:
    places = np.column_stack([[0.0, 1.0, 2.1, 3.3, 4.6], np.zeros(5)])  # nearest: 1, 0, 1, 2, 3
    domains = pd.Categorical(["a", "a", "b", "b", "c"])
    counts = contacts(places, domains, None, 1)
    assert counts.tolist() == [[2, 1, 0], [1, 1, 1], [0, 1, 0]]
    samples = pd.Categorical(["one", "one", "one", "two", "two"])
    assert contacts(places, domains, samples, 1).tolist() == [[2, 1, 0], [1, 0, 2], [0, 2, 0]]


def test_shares_of_contacts_by_hand() -> None:
    counts = np.array([[50, 6, 0, 0], [6, 9, 2, 0], [0, 2, 4, 0], [0, 0, 0, 7]])
    shares = contact_shares(counts)
    assert np.allclose(shares, shares.T) and (np.diag(shares) == 0).all()
    assert shares[0, 1] == 6 / 8 and shares[1, 2] == 2 / 8 and shares[0, 2] == 0
    assert (shares[3] == 0).all(), "it touches none"
    assert contact_shares(np.array([[3, 5], [5, 0]]))[0, 1] == 1


def test_connectivity_tells_near_groups_from_far_ones() -> None:
    pytest.importorskip("igraph", reason="PAGA needs the extra isost[leiden]")
    rng = np.random.default_rng(0)
    features = np.concatenate([rng.normal(at, 1.0, (150, 3)) for at in (0.0, 1.0, 40.0)]).astype(np.float32)
    linked = connectivities(features, pd.Categorical(np.repeat(["a", "b", "c"], 150)), 10)
    assert np.allclose(linked, linked.T) and (linked >= 0).all() and (linked <= 1).all()
    assert linked[0, 1] > 0.3 and linked[0, 2] == linked[1, 2] == 0
