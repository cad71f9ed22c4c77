"""What every staging must do: a folder, and a bucket."""

import os
from pathlib import Path
from uuid import uuid4

import pytest

from apex_mcp.errors import Code, Rejected, Unavailable
from apex_mcp.ingestion.staging import LocalStaging, Staging, open_staging
from apex_mcp.settings import Settings
from apex_mcp.stores.health import Health
from tests.services.s3_server import S3Service

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["folder", "shared folder", "bucket", "bucket with prefix"])
async def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Staging:
    if "folder" in request.param:
        place = tmp_path / "shared" if request.param == "shared folder" else None
        if place:
            place.mkdir()
        return await open_staging(Settings(staging=str(place or "")), tmp_path / "own", Health())
    s3: S3Service = request.getfixturevalue("s3")
    prefix = "/some/prefix/" if "prefix" in request.param else ""
    return await open_in(s3, f"s3://{s3.new_bucket()}{prefix}", tmp_path)


async def open_in(s3: S3Service, address: str, tmp_path: Path, health: Health | None = None) -> Staging:
    settings = Settings(staging=address, s3_endpoint_url=s3.endpoint_url)
    return await open_staging(settings, tmp_path / "own", health or Health())


async def test_a_piece_comes_back_whole_and_another_name_is_nothing(staging: Staging) -> None:
    one, other = uuid4(), uuid4()
    await staging.put(one, "raw", b"\x00\xff content")
    assert await staging.get(one, "raw") == b"\x00\xff content"
    assert await staging.get(one, "parsed.json") is None
    assert await staging.get(other, "raw") is None


async def test_a_piece_is_replaced(staging: Staging) -> None:
    one = uuid4()
    await staging.put(one, "raw", b"a long first one")
    await staging.put(one, "raw", b"second")
    assert await staging.get(one, "raw") == b"second"


async def test_an_empty_piece_is_a_piece(staging: Staging) -> None:
    one = uuid4()
    await staging.put(one, "raw", b"")
    assert await staging.get(one, "raw") == b""


async def test_a_large_piece_goes_in_parts_and_comes_back_whole(staging: Staging) -> None:
    one, data = uuid4(), bytes(range(256)) * 80_000
    await staging.put(one, "raw", data)
    assert await staging.get(one, "raw") == data
    async with staging.local_file(one, "raw") as path:
        assert path.read_bytes() == data


async def test_a_shared_folder_whose_volume_is_not_mounted_is_no_place_to_write_to_or_to_miss_a_piece_in(
    tmp_path: Path,
) -> None:
    place, one = tmp_path / "mounted", uuid4()
    place.mkdir()
    staging = await open_staging(Settings(staging=str(place)), tmp_path / "own", Health())
    await staging.put(one, "raw", b"content")
    volume = place.rename(tmp_path / "volume")

    async def read_path() -> None:
        async with staging.local_file(one, "raw"):
            pass

    for mount_point in (False, True):
        if mount_point:
            place.mkdir()
        for ask in (
            lambda: staging.put(uuid4(), "raw", b"lost"),
            lambda: staging.get(one, "raw"),
            lambda: staging.delete(one),
            lambda: staging.older_than(0),
            read_path,
        ):
            with pytest.raises(Unavailable) as away:
                await ask()
            assert away.value.code is Code.STAGING_UNAVAILABLE
        assert place.exists() == mount_point
    assert list(place.iterdir()) == []
    place.rmdir()
    volume.rename(place)
    assert await staging.get(one, "raw") == b"content"


async def test_what_cannot_be_removed_from_a_shared_folder_is_said(tmp_path: Path) -> None:
    one = uuid4()
    staging = await open_staging(Settings(staging=str(tmp_path)), tmp_path / "own", Health())
    (tmp_path / str(one)).write_bytes(b"no folder")
    with pytest.raises(Unavailable) as stays:
        await staging.delete(one)
    assert stays.value.code is Code.STAGING_UNAVAILABLE


async def test_a_child_process_reads_a_piece_by_its_path(staging: Staging) -> None:
    one = uuid4()
    await staging.put(one, "raw", b"content")
    async with staging.local_file(one, "raw") as path, staging.local_file(one, "raw") as again:
        assert (path.read_bytes(), again.read_bytes()) == (b"content", b"content")
    assert await staging.get(one, "raw") == b"content"


async def test_where_no_piece_is_nothing_is_at_its_path(staging: Staging) -> None:
    async with staging.local_file(uuid4(), "raw") as path:
        assert not path.exists()


async def test_deleting_removes_all_of_one_ingestion_and_nothing_else_and_can_be_repeated(
    staging: Staging,
) -> None:
    one, other = uuid4(), uuid4()
    for ingestion_id in (one, other):
        await staging.put(ingestion_id, "raw", b"1")
        await staging.put(ingestion_id, "parsed.json", b"2")
    await staging.delete(one)
    await staging.delete(one)
    assert await staging.get(one, "raw") is None
    assert await staging.get(one, "parsed.json") is None
    assert await staging.get(other, "raw") == b"1"


async def test_a_place_is_known_by_the_same_mark_wherever_it_is_seen_from(
    s3: S3Service, tmp_path: Path
) -> None:
    marks: list[str] = []
    for place in ("one", "other"):
        (tmp_path / place).mkdir()
        for address in (str(tmp_path / place), f"s3://{s3.new_bucket()}"):
            seen = {await (await open_in(s3, address, tmp_path)).mark() for _ in range(2)}
            marks += seen
            assert len(seen) == 1
    assert len(set(marks)) == 4


async def test_a_mark_is_nobodys_content(staging: Staging) -> None:
    mark = await staging.mark()
    assert await staging.older_than(0) == []
    assert await staging.mark() == mark


async def test_what_is_old_is_listed_once_and_by_its_age(staging: Staging) -> None:
    assert await staging.older_than(-60) == []
    one, other = uuid4(), uuid4()
    for ingestion_id in (one, other):
        await staging.put(ingestion_id, "raw", b"1")
        await staging.put(ingestion_id, "parsed.json", b"2")
    assert sorted(await staging.older_than(-60)) == sorted([one, other])
    assert await staging.older_than(600) == []
    await staging.delete(one)
    assert await staging.older_than(-60) == [other]


# --- each by itself --------------------------------------------------------------------------------------------------


async def test_what_is_not_ours_in_a_shared_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    staging, one = LocalStaging(tmp_path), uuid4()
    await staging.put(one, "raw", b"1")
    assert await staging.older_than(-60) == [one]


@pytest.mark.parametrize("there", ["nothing", "a file"])
async def test_a_shared_folder_that_is_none_is_refused_at_the_start(tmp_path: Path, there: str) -> None:
    if there == "a file":
        (tmp_path / "shared").write_text("mine", encoding="utf-8")
    with pytest.raises(Rejected) as caught:
        await open_staging(Settings(staging=str(tmp_path / "shared")), tmp_path / "own", Health())
    assert caught.value.code is Code.SETTINGS_INVALID
    assert not (tmp_path / "shared").is_dir(), "a volume that is not mounted is not made up for"


async def test_an_address_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected) as caught:
        await open_staging(Settings(staging="gs://bucket"), tmp_path, Health())
    assert caught.value.code is Code.SETTINGS_INVALID


async def test_a_folder_that_cannot_be_read_is_unavailable(tmp_path: Path) -> None:
    staging, one = LocalStaging(tmp_path / "staging"), uuid4()
    (tmp_path / "staging" / str(one)).mkdir(parents=True)
    (tmp_path / "staging" / str(one) / "raw").mkdir()
    with pytest.raises(Unavailable) as caught:
        await staging.get(one, "raw")
    assert caught.value.code is Code.STAGING_UNAVAILABLE
    with pytest.raises(Unavailable):
        await staging.put(one, "raw", b"1")
    assert [place.name for place in (tmp_path / "staging" / str(one)).glob("*")] == ["raw"], (
        "nothing half-written stays"
    )


@pytest.mark.parametrize("address", ["s3://", "s3:///prefix"])
async def test_a_bucket_must_be_named(s3: S3Service, tmp_path: Path, address: str) -> None:
    with pytest.raises(Rejected) as caught:
        await open_in(s3, address, tmp_path)
    assert caught.value.code is Code.SETTINGS_INVALID


async def test_a_missing_bucket_is_refused_at_the_start(s3: S3Service, tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="is not there"):
        await open_in(s3, "s3://nobody-made-this-one", tmp_path)


async def test_without_keys_it_is_refused_at_the_start(
    s3: S3Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(Rejected, match="no keys"):
        await open_in(s3, f"s3://{s3.new_bucket()}", tmp_path)


async def test_nothing_is_left_in_the_bucket_or_on_the_disk(
    s3: S3Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    bucket = s3.new_bucket()
    staging, one = await open_in(s3, f"s3://{bucket}/prefix", tmp_path), uuid4()
    await staging.put(one, "raw", b"1")
    async with staging.local_file(one, "raw") as path:
        assert path.is_relative_to(tmp_path)
    await staging.delete(one)
    assert os.listdir(tmp_path) == []
    assert s3.client().list_objects_v2(Bucket=bucket)["KeyCount"] == 0


async def test_a_service_that_is_gone_is_unavailable_and_left_alone_for_a_while(
    s3: S3Service, tmp_path: Path
) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    own = S3Service(f"http://127.0.0.1:{server.get_host_and_port()[1]}")
    health, one = Health(), uuid4()
    try:
        staging = await open_in(own, f"s3://{own.new_bucket()}", tmp_path, health)
        await staging.put(one, "raw", b"1")
        assert health.of("staging").state == "ok"
    finally:
        server.stop()
    for _ in range(4):
        with pytest.raises(Unavailable) as caught:
            await staging.get(one, "raw")
        assert caught.value.code is Code.STAGING_UNAVAILABLE
        assert caught.value.retry_after_seconds
    assert health.of("staging").state == "down"


async def test_a_bucket_that_is_taken_away_meanwhile_makes_content_wait(
    s3: S3Service, tmp_path: Path
) -> None:
    bucket = s3.new_bucket()
    staging = await open_in(s3, f"s3://{bucket}", tmp_path)
    s3.client().delete_bucket(Bucket=bucket)
    with pytest.raises(Unavailable) as caught:
        await staging.put(uuid4(), "raw", b"1")
    assert caught.value.code is Code.STAGING_UNAVAILABLE
