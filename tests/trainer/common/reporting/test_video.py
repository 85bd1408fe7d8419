"""Videos are complete files with even sizes, or do not exist."""

from fractions import Fraction

import numpy as np
import pytest

from schemas.errors import ConfigError
from trainer.common.reporting.video import VideoWriter, remove_unfinished

av = pytest.importorskip("av", reason="needs the extra `video`")


def frame(height, width, value=0):
    return np.full((height, width, 3), value, np.uint8)


def write_frames(video, *frames):
    for one in frames:
        video.write(one)


def test_video_has_all_frames_the_rate_and_an_even_size(tmp_path):
    with VideoWriter(tmp_path / "videos", 7.5) as video:
        write_frames(video, *(frame(33, 47, 20 * k) for k in range(10)))
        path = video.finish("episode.mp4")
    assert path == tmp_path / "videos" / "episode.mp4"
    assert video.frames == 10
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.average_rate) == (46, 32, Fraction(15, 2))
        shown = [picture.to_ndarray(format="rgb24").mean() for picture in container.decode(video=0)]
    np.testing.assert_allclose(shown, [20 * k for k in range(10)], atol=4)


def test_video_appears_only_when_it_is_complete_and_replaces_an_older_one(tmp_path):
    (tmp_path / "episode.mp4").write_bytes(b"older")
    with VideoWriter(tmp_path, 10) as video:
        write_frames(video, *[frame(64, 64, k % 256) for k in range(300)])
        assert (tmp_path / "episode.mp4").read_bytes() == b"older"
        video.finish("episode.mp4")
    assert (tmp_path / "episode.mp4").read_bytes()[4:8] == b"ftyp"
    assert [path.name for path in tmp_path.iterdir()] == ["episode.mp4"]


def test_video_that_is_not_finished_is_removed(tmp_path):
    with VideoWriter(tmp_path, 10) as video:
        write_frames(video, *[np.random.default_rng(k).integers(0, 256, (64, 64, 3), np.uint8) for k in range(300)])
        assert list(tmp_path.iterdir()) != [], "it must exist, or its removal shows nothing"
    assert list(tmp_path.iterdir()) == []


def test_videos_of_a_killed_process_are_removed_and_finished_videos_are_kept(tmp_path):
    (tmp_path / ".recording-123-456.mp4").write_bytes(b"half")
    (tmp_path / "rollout.mp4").write_bytes(b"whole")
    remove_unfinished(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rollout.mp4"]


def test_video_without_frames_or_with_a_tiny_frame_is_an_error(tmp_path):
    with VideoWriter(tmp_path, 10) as video:
        with pytest.raises(ConfigError, match=r"episode\.mp4 has no frames"):
            video.finish("episode.mp4")
        with pytest.raises(ConfigError, match="a frame of 1 x 8 is too small for a video"):
            video.write(frame(8, 1))
    assert list(tmp_path.iterdir()) == []
