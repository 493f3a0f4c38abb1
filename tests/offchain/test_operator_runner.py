"""Operators, run for real in the hardened way."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
from pathlib import Path

import pytest

from tests.offchain.workshop import APPLICATION, Runs, Workshop, until
from workers.offchain.ends import RunEnd
from workers.offchain.operators.orphans import processes_of_runs

MIB = 1024 * 1024


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


# -- input and output -----------------------------------------------------------------------------


def test_the_output_is_what_the_operator_says(workshop: Workshop) -> None:
    workshop.program("cat", "/bin/cat")
    text = "a \x1b[31m\x00\x7f  \"'\\ 🦓\n\r\t"
    result = workshop.run("cat", text)
    assert (result.end, result.output, result.text, result.stderr) == (RunEnd.OUTPUT, text, "", "")


def test_no_output_is_an_output(workshop: Workshop) -> None:
    workshop.program("true", "/bin/true")
    assert workshop.run("true").end is RunEnd.OUTPUT


def test_an_operator_need_not_read_its_input(workshop: Workshop) -> None:  # T27
    workshop.program("true", "/bin/true")

    async def story(runs: Runs) -> None:
        ends = [(await runs.perform("true", "x" * MIB)).end for _ in range(200)]
        assert ends == [RunEnd.OUTPUT] * 200

    workshop.play(story)


def test_input_and_output_flow_at_the_same_time(workshop: Workshop) -> None:  # T28
    workshop.program("cat", "/bin/cat", input_bytes_max=5 * MIB, output_bytes_max=5 * MIB)
    text = "0123456789abcdef" * (5 * MIB // 16)
    result = workshop.run("cat", text)
    assert result.end is RunEnd.OUTPUT
    assert result.output == text


def test_output_must_be_utf_8(workshop: Workshop) -> None:  # T29
    workshop.script("bytes", r"printf 'ab\377\376'")
    result = workshop.run("bytes")
    assert (result.end, result.output) == (RunEnd.INVALID_UTF8, "")
    assert "at byte 2" in result.text


def test_output_may_be_anything_if_the_operator_table_says_so(workshop: Workshop) -> None:
    workshop.script("bytes", r"printf '\377\376'", lossy=True)
    result = workshop.run("bytes")
    assert (result.end, result.output) == (RunEnd.OUTPUT, "��")


def test_input_must_fit(workshop: Workshop) -> None:
    workshop.script("touch", "touch $HERE/started", input_bytes_max=4)
    result = workshop.run("touch", "äää")
    assert result.end is RunEnd.INPUT_TOO_LARGE
    assert "6 bytes, 4 are allowed" in result.text
    assert not (workshop.directory / "started").exists()
    assert workshop.run("touch", "ää").end is RunEnd.OUTPUT


def test_half_a_surrogate_pair_is_no_input(workshop: Workshop) -> None:
    workshop.program("cat", "/bin/cat")
    assert workshop.run("cat", "\ud800").end is RunEnd.INVALID_UTF8


def test_output_of_the_largest_size_is_taken_and_one_byte_more_is_not(workshop: Workshop) -> None:
    workshop.script("say", 'head -c "$(cat)" /dev/zero', output_bytes_max=200_000)
    assert len(workshop.run("say", "200000").output) == 200_000
    assert workshop.run("say", "200001").end is RunEnd.OUTPUT_TOO_LARGE


@pytest.mark.parametrize("stream", ["", ">&2"])
def test_endless_output_is_ended_and_takes_no_memory(workshop: Workshop, stream: str) -> None:
    """T35."""
    workshop.script("endless", f"trap '' TERM; echo begin {stream}; cat /dev/zero {stream}")
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = workshop.run("endless")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert result.end is RunEnd.OUTPUT_TOO_LARGE
    assert grown_kib < 32 * 1024
    assert result.output == ""


def test_the_last_of_the_error_output_is_kept(workshop: Workshop) -> None:
    workshop.script("chatty", "head -c 300000 /dev/zero >&2; echo the reason >&2; exit 3")
    result = workshop.run("chatty")
    assert result.end is RunEnd.TRANSIENT
    assert result.stderr.endswith("\0the reason\n")
    assert len(result.stderr) == 64 * 1024


def test_error_output_is_kept_of_a_run_that_succeeds_too(workshop: Workshop) -> None:
    workshop.script("warn", r"echo ok; printf 'careful\377' >&2")
    result = workshop.run("warn")
    assert (result.output, result.stderr) == ("ok\n", "careful�")


# -- how it ends ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "end", "text"),
    [
        ("exit 1", RunEnd.TRANSIENT, "exit status 1"),
        ("exit 75", RunEnd.TRANSIENT, "exit status 75"),
        ("exit 78", RunEnd.PERMANENT, "exit status 78"),
        ("exit 127", RunEnd.CANNOT_START, "exit status 127"),
        ("kill -SEGV $$", RunEnd.TRANSIENT, "SIGSEGV"),
        ("kill -KILL $$", RunEnd.TRANSIENT, "SIGKILL"),
    ],
)
def test_exit_statuses_have_classes(  # T31
    workshop: Workshop, body: str, end: RunEnd, text: str
) -> None:
    workshop.script("ends", f"echo output; {body}")
    result = workshop.run("ends")
    assert (result.end, result.output) == (end, "")
    assert text in result.text


def test_a_file_that_cannot_be_run_is_no_operator(workshop: Workshop) -> None:  # T32
    here = workshop.directory
    (here / "text").write_text("no program")
    (here / "odd").write_text("#!/no/such/interpreter\n")
    (here / "junk").write_text("no program")
    for name in ("odd", "junk"):
        (here / name).chmod(0o755)
    names = ["missing", "text", ".", "odd", "junk", "text/below"]
    for name in names:
        workshop.program(name, f"{here}/{name}")

    async def story(runs: Runs) -> None:
        for name in names:
            run = runs.start(name, "input")
            assert runs.pids[run] is None
            assert not runs.has_ended(run), "not before `start` has returned"
            result = await runs.end(run)
            assert result.end is RunEnd.CANNOT_START, name
            assert f"{here}/{name}" in result.text
        assert (await runs.perform("nobody")).end is RunEnd.UNKNOWN_OPERATOR
        assert runs.runner.statistics().ends == {"cannot_start": 6, "unknown_operator": 1}

    workshop.play(story)


def test_a_lack_of_descriptors_says_nothing_of_the_operator(workshop: Workshop) -> None:
    workshop.program("true", "/bin/true")

    async def story(runs: Runs) -> None:
        assert (await runs.perform("true")).end is RunEnd.OUTPUT
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        taken = os.dup(0)  # the next ones are above it
        resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 3, hard))
        try:
            run = runs.start("true")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            os.close(taken)
        assert (await runs.end(run)).end is RunEnd.NOT_STARTED
        assert (await runs.perform("true")).end is RunEnd.OUTPUT

    workshop.play(story)


def test_a_time_limit_ends_the_whole_group(workshop: Workshop) -> None:  # T33
    workshop.script("sleeper", "sleep 1000 & sleep 1000", timeout_s=0.05)
    result = workshop.run("sleeper")
    assert result.end is RunEnd.TIMEOUT
    assert "0.05 s" in result.text


def test_the_end_reaches_what_hides_from_it(workshop: Workshop) -> None:  # T33
    """Deaf to SIGTERM, in a session of its own, and with our pipe in its hands."""
    workshop.script(
        "deaf",
        "trap '' TERM; setsid sh -c 'touch $0/hidden; sleep 1000' $HERE & sleep 1000",
        grace_s=0.05,
    )

    async def story(runs: Runs) -> None:
        run = runs.start("deaf")
        await until((workshop.directory / "hidden").exists)
        runs.runner.cancel(run)
        assert (await runs.end(run)).end is RunEnd.CANCELLED
        assert processes_of_runs({runs.token}) == []

    workshop.play(story)


def test_an_operator_may_tidy_up_within_the_grace(workshop: Workshop) -> None:
    workshop.script(
        "tidy",
        "trap 'echo tidied >&2; exit 0' TERM; touch $HERE/ready; while :; do sleep 0.01; done",
        grace_s=60,
    )

    async def story(runs: Runs) -> None:
        run = runs.start("tidy")
        await until((workshop.directory / "ready").exists)
        runs.runner.cancel(run)
        result = await runs.end(run)
        assert result.end is RunEnd.CANCELLED
        assert result.stderr.endswith("tidied\n")

    workshop.play(story)


def test_a_stopped_operator_can_be_ended(workshop: Workshop) -> None:
    workshop.script("stopped", "kill -STOP $$", timeout_s=0.05, grace_s=60)
    assert workshop.run("stopped").end is RunEnd.TIMEOUT


def test_each_attempt_may_take_twice_as_long(workshop: Workshop) -> None:
    workshop.script("sleeper", "exec sleep 1000", timeout_s=0.02, timeout_max_s=0.07)

    async def story(runs: Runs) -> None:
        texts = [
            (await runs.end(runs.start("sleeper", attempt=attempt))).text for attempt in (1, 2, 3)
        ]
        assert [text.split()[-2] for text in texts] == ["0.02", "0.04", "0.07"]

    workshop.play(story)


def test_an_operator_that_says_nothing_for_too_long_is_ended(workshop: Workshop) -> None:
    workshop.script(
        "talker",
        "for i in 1 2 3 4 5 6 7 8 9; do printf $i >&2; sleep 0.15; done; exec sleep 1000",
        idle_timeout_s=1.2,
    )
    result = workshop.run("talker")
    assert result.end is RunEnd.TIMEOUT
    assert "said nothing for 1.2 s" in result.text
    assert result.stderr == "123456789", "each byte begins the wait anew"


def test_a_slow_run_is_told_of_once_and_counts(workshop: Workshop) -> None:  # T34
    workshop.script(
        "slow", "while [ ! -e $HERE/told ]; do sleep 0.01; done; echo done", slow_after_s=0.02
    )

    async def story(runs: Runs) -> None:
        run = runs.start("slow")
        await until(lambda: runs.slow)
        (workshop.directory / "told").touch()
        result = await runs.end(run)
        assert (result.end, result.output) == (RunEnd.OUTPUT, "done\n")
        assert runs.slow == [run]
        assert runs.runner.statistics().slow == 1

    workshop.play(story)


def test_what_an_operator_leaves_in_its_group_is_ended(workshop: Workshop) -> None:
    workshop.script("parent", "sleep 1000 >/dev/null 2>&1 </dev/null & echo done")
    result = workshop.run("parent")
    assert (result.end, result.output) == (RunEnd.OUTPUT, "done\n")


def test_a_grandchild_that_holds_the_pipe_delays_no_result(workshop: Workshop) -> None:
    workshop.script("parent", "setsid sleep 1000 & echo done")
    result = workshop.run("parent")
    assert (result.end, result.output) == (RunEnd.OUTPUT, "done\n")


def test_a_grandchild_that_floods_the_pipe_makes_the_output_too_large(workshop: Workshop) -> None:
    workshop.script("parent", "setsid cat /dev/zero & echo done")
    assert workshop.run("parent").end is RunEnd.OUTPUT_TOO_LARGE


def test_a_grandchild_may_finish_the_output_shortly_after(workshop: Workshop) -> None:
    workshop.script("parent", "(sleep 0.05; echo world) & echo hello")
    assert workshop.run("parent").output == "hello\nworld\n"


# -- by whom it is ended --------------------------------------------------------------------------


def test_a_cancelled_run_is_gone_when_it_is_told(workshop: Workshop) -> None:  # T26
    workshop.script("sleeper", "sleep 1000 & touch $HERE/ready; sleep 1000")

    async def story(runs: Runs) -> None:
        run = runs.start("sleeper")
        await until((workshop.directory / "ready").exists)
        assert runs.runner.statistics().running == 1
        runs.runner.cancel(run)
        assert (await runs.end(run)).end is RunEnd.CANCELLED
        assert processes_of_runs({runs.token}) == []
        runs.runner.cancel(run)  # again: there is nothing to end
        statistics = runs.runner.statistics()
        assert (statistics.running, statistics.ends) == (0, {"cancelled": 1})

    workshop.play(story)


def test_a_cancelled_run_is_cancelled_even_if_it_was_being_ended(workshop: Workshop) -> None:
    workshop.script(
        "deaf",
        "trap 'touch $HERE/asked' TERM; while :; do sleep 0.01; done",
        timeout_s=1,  # by then it has its trap
        grace_s=0.2,
    )

    async def story(runs: Runs) -> None:
        run = runs.start("deaf")
        await until((workshop.directory / "asked").exists)
        runs.runner.cancel(run)
        assert (await runs.end(run)).end is RunEnd.CANCELLED

    workshop.play(story)


def test_a_run_can_be_ended_without_a_grace(workshop: Workshop) -> None:
    workshop.script(
        "deaf",
        "trap 'touch $HERE/asked' TERM; touch $HERE/ready; while :; do sleep 0.01; done",
        grace_s=300,
    )

    async def story(runs: Runs) -> None:
        run = runs.start("deaf")
        await until((workshop.directory / "ready").exists)
        runs.runner.cancel(run)
        await until((workshop.directory / "asked").exists)
        assert not runs.has_ended(run)
        runs.runner.cancel(run, at_once=True)
        assert (await runs.end(run)).end is RunEnd.CANCELLED

    workshop.play(story)


def test_the_shutdown_ends_all_runs(workshop: Workshop) -> None:  # T26
    workshop.script("sleeper", "touch $HERE/ready-$$; exec sleep 1000")
    seen: list[Runs] = []

    async def story(runs: Runs) -> None:
        seen.append(runs)
        for _ in range(5):
            runs.start("sleeper")
        await until(lambda: len(list(workshop.directory.glob("ready-*"))) == 5)

    workshop.play(story)  # which shuts the runner down
    assert seen[0].runner.statistics().ends == {"cancelled": 5}
    assert list(workshop.scratch.iterdir()) == []


# -- what it finds --------------------------------------------------------------------------------


def test_an_operator_knows_its_task_and_nothing_of_us(workshop: Workshop) -> None:
    workshop.environment |= {"SECRET": "s", "SHOWN": "yes", "LANG": "C.UTF-8"}
    workshop.environment.pop("TZ", None)
    workshop.program("env", "/usr/bin/env", env=["SHOWN", "ABSENT"], set_env={"OURS": "1"})
    workshop.program("args", "/bin/echo")

    async def story(runs: Runs) -> None:
        result = await runs.end(runs.start("env", attempt=3, group="g 1"))
        found = dict(line.split("=", 1) for line in result.output.splitlines())
        assert int(found.pop("FORGEPOOL_DEADLINE")) > 1_700_000_000
        assert len(found.pop("FORGEPOOL_IDEMPOTENCY_KEY")) == 64
        home = found.pop("HOME")
        assert found == {
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
            "TMPDIR": home,
            "SHOWN": "yes",
            "OURS": "1",
            "FORGEPOOL_TASK_ID": "g 1",
            "FORGEPOOL_APPLICATION_ID": APPLICATION.application_id,
            "FORGEPOOL_CHAIN_ID": APPLICATION.chain_id,
            "FORGEPOOL_ATTEMPT": "3",
            "FORGEPOOL_RUN": workshop.token,
        }
        assert (await runs.perform("args")).output == "\n", "it gets no arguments"

    workshop.play(story)


def test_each_run_begins_in_an_empty_directory_of_its_own(workshop: Workshop) -> None:
    workshop.script("dirty", "pwd; ls -A; echo $HOME; touch left; mkdir -p deep/er; umask")

    async def story(runs: Runs) -> None:
        started = [runs.start("dirty"), runs.start("dirty")]
        outputs = [(await runs.end(run)).output.split() for run in started]
        outputs.append((await runs.perform("dirty")).output.split())
        for first, second, *_ in outputs:
            assert first == second, "the current directory is the home, and empty"
            assert first.startswith(str(workshop.scratch))
            assert not os.path.exists(first), "and is removed"
        assert outputs[0][0] != outputs[1][0]

    workshop.play(story)


def test_limits_hold_from_the_first_instruction_on(workshop: Workshop) -> None:
    workshop.script(
        "limits",
        "cat /proc/self/limits; echo $0 $#",
        memory_bytes=64 * MIB,
        cpu_s=7,
        open_files=20,
        file_bytes=8192,
        processes=9999,
    )
    *lines, last = workshop.run("limits").output.splitlines()
    found = {line[:26].strip(): line[26:].split()[:2] for line in lines}
    assert found["Max address space"] == [str(64 * MIB)] * 2
    assert found["Max cpu time"] == ["7", "8"]
    assert found["Max open files"] == ["20", "20"]
    assert found["Max file size"] == ["8192", "8192"]
    assert found["Max processes"] == ["9999", "9999"]
    assert found["Max core file size"] == ["0", "0"]
    assert last == f"{workshop.directory}/limits 0", "and it still has no arguments"


def test_an_operator_without_limits_leaves_no_core_dump(workshop: Workshop) -> None:
    workshop.script("limits", "grep core /proc/self/limits")
    assert workshop.run("limits").output.split()[4:6] == ["0", "0"]


def test_a_run_that_hits_a_limit_is_out_of_resources(workshop: Workshop) -> None:
    workshop.script("writer", "exec head -c 100000 /dev/zero > file", file_bytes=4096)
    result = workshop.run("writer")
    assert result.end is RunEnd.RESOURCES
    assert "SIGXFSZ" in result.text


def test_how_an_operator_has_ended_is_heard_though_we_were_told_not_to(workshop: Workshop) -> None:
    """Whoever has started the pool may ignore its children; the system keeps no status then."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        workshop.script("fails", "exit 3")
        assert workshop.run("fails").text == "exit status 3"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_operator_gets_nothing_that_we_have_open(workshop: Workshop) -> None:
    workshop.script("lister", "ls /proc/$$/fd")
    inherited = fcntl.fcntl(0, fcntl.F_DUPFD, 100)  # above what a shell opens itself
    try:
        listed = workshop.run("lister").output.split()
    finally:
        os.close(inherited)
    assert {"0", "1", "2"} <= set(listed)
    assert str(inherited) not in listed


def test_operators_hear_signals_that_we_ignore(workshop: Workshop) -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        workshop.script("sleeper", "exec sleep 1000", timeout_s=0.02, grace_s=100)
        assert workshop.run("sleeper").end is RunEnd.TIMEOUT
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN, "it is not theirs to change"
    finally:
        signal.signal(signal.SIGTERM, before)
