from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest

from scenegen.geometry.planes import open3d_problem, ransac_plane, ransac_plane_numpy


def cloud(seed: int, outliers: float) -> tuple[np.ndarray, np.ndarray]:
    """Noisy points of a random plane, and the plane."""
    random = np.random.default_rng(seed)
    normal = random.standard_normal(3)
    normal /= np.linalg.norm(normal)
    across = np.linalg.svd(normal[None])[2][1:]
    points = random.uniform(-2, 2, (3000, 2)) @ across + normal * (2 + 0.002 * random.standard_normal(3000)[:, None])
    stray = random.uniform(-3, 3, (int(3000 * outliers), 3))
    return np.concatenate([points, stray]), np.append(normal, -2.0)


@pytest.mark.parametrize("fit", [ransac_plane, ransac_plane_numpy])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_plane_comes_back_through_outliers(fit: Any, seed: int) -> None:
    points, plane = cloud(seed, outliers=0.8)
    found, inliers = fit(points, 0.01)
    found *= np.sign(found @ plane)
    np.testing.assert_allclose(found, plane, atol=2e-3)
    assert inliers[:3000].mean() > 0.99


def test_both_twins_agree_and_repeat() -> None:
    points, _ = cloud(5, outliers=0.3)
    one, other = ransac_plane(points, 0.01)[0], ransac_plane_numpy(points, 0.01)[0]
    np.testing.assert_allclose(one * np.sign(one @ other), other, atol=1e-3)
    np.testing.assert_array_equal(ransac_plane(points, 0.01)[0], one)


def test_without_open3d_the_twin_runs_and_the_reason_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *rest: Any, **options: Any) -> Any:
        if name == "open3d":
            raise ImportError("libusb-1.0.so.0: cannot open shared object file")
        return real(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    problem = open3d_problem()
    assert problem is not None
    assert "libusb" in problem
    points, plane = cloud(1, outliers=0.2)
    found, _ = ransac_plane(points, 0.01)
    np.testing.assert_allclose(found * np.sign(found @ plane), plane, atol=2e-3)
