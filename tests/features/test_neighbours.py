"""Neighbours found block by block are those of the whole matrix of cosines."""

import torch
from torch.nn.functional import normalize

from lort_hub.features.matrix import BLOCK, FeatureMatrix
from lort_hub.features.neighbours import nearest_neighbours


def test_neighbours_are_those_of_the_whole_matrix():
    x, queries = torch.randn(BLOCK + 300, 6) + 3, torch.tensor([2100, 5, 0, BLOCK])
    cosines, found = nearest_neighbours(FeatureMatrix.of(x), queries, 4)
    directions = normalize(x - x.mean(dim=0))
    whole = directions @ directions.T
    whole.fill_diagonal_(-2)
    expected = whole[queries].topk(4)
    assert torch.equal(found, expected.indices)
    assert torch.allclose(cosines, expected.values, atol=1e-5)


def test_a_sample_of_the_same_group_is_no_neighbour():
    x, groups = torch.randn(30, 3), torch.arange(30) // 10
    _, found = nearest_neighbours(FeatureMatrix.of(x), torch.arange(30), 20, groups)
    for row in range(30):
        assert sorted(found[row].tolist()) == [at for at in range(30) if at // 10 != row // 10]


def test_where_there_are_fewer_neighbours_the_rest_is_minus_one():
    _, found = nearest_neighbours(FeatureMatrix.of(torch.eye(3)), torch.tensor([0]), 5)
    assert sorted(found[0].tolist()) == [-1, -1, -1, 1, 2]
