#!/usr/bin/env python3
"""Cuts the power of a guest that runs nats-server and PostgreSQL, again and again under load, and counts what is missing.

The disk of the guest is served by nbdkit with a cache that is written back at a flush and at no other time; a cut is `kill -9`
of both, so that the guest's page cache and everything that was not flushed are gone, as with a disk whose cache is volatile.
Bridge and workers run here, against the guest. A client outside keeps the ledger of what was accepted, one JSON a line.
"""
import argparse, http.client, json, os, queue, random, shutil, signal, socket, subprocess, sys, threading, time
from pathlib import Path

HERE = Path(__file__).resolve().parent
GUEST_UP = "power-cut guest is up"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder that image.sh has filled")
    parser.add_argument("--bin", type=Path, default=HERE / "../../target/debug", help="where telltale and the workers are")
    parser.add_argument("--sync", choices=["always", "default"], default="always", help="sync_interval of nats-server")
    parser.add_argument("--cuts", type=int, default=3)
    parser.add_argument("--rate", type=int, default=500, help="readings offered a second")
    parser.add_argument("--seconds", type=int, nargs=2, default=[15, 30], help="load before each cut: from, to")
    parser.add_argument("--devices", type=int, default=96, help="connections, each with a reading in hand at a time")
    parser.add_argument("--first", type=int, default=500, help="so many are accepted before the load of a cut counts")
    parser.add_argument("--backlog", type=int, default=0,
                        help="seconds before each cut in which `validate` stands still: the broker alone has what is accepted")
    parser.add_argument("--patience", type=int, default=1200, help="seconds until all that was accepted is stored")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--accel", default="tcg", help="how qemu runs the guest; `kvm` where that works")
    return parser.parse_args()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def until(what, seconds, is_it):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = is_it()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"{what}: not within {seconds} s")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Guest:
    """The machine whose power is cut."""

    def __init__(self, folder, run, accel):
        self.folder, self.run, self.accel = folder, run, accel
        self.nats, self.postgres = free_port(), free_port()
        self.disk, self.console, self.boots, self.parts = run / "disk.img", None, 0, []
        self.tools = folder / "tools" if (folder / "tools").is_dir() else None
        modules = {"QEMU_MODULE_DIR": str(self.tools / "usr/lib/x86_64-linux-gnu/qemu")} if self.tools else {}
        self.env = os.environ | modules

    def make_disk(self, configuration):
        target = self.folder / "guest/etc/telltale"
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for file in configuration:
            shutil.copy(file, target / file.name)
        subprocess.run(["truncate", "--size=4G", self.disk], check=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", self.folder / "guest", self.disk], check=True)

    def tool(self, *command):
        """A program of PATH, or one of the tools' tree with its own libraries."""
        if self.tools is None:
            return list(command)
        libraries = [self.tools / "lib/x86_64-linux-gnu", self.tools / "usr/lib/x86_64-linux-gnu"]
        program = next(p for p in (self.tools / f"usr/{b}/{command[0]}" for b in ("bin", "sbin")) if p.is_file())
        path = ":".join(str(p) for p in libraries)
        return [str(self.tools / "lib64/ld-linux-x86-64.so.2"), "--library-path", path, str(program), *command[1:]]

    def boot(self):
        self.boots += 1
        socket_path = self.run / "disk.sock"
        socket_path.unlink(missing_ok=True)
        plugins = "usr/lib/x86_64-linux-gnu/nbdkit"
        file, cache = "file", "cache"
        if self.tools:
            file, cache = (self.tools / plugins / p for p in ("plugins/nbdkit-file-plugin.so", "filters/nbdkit-cache-filter.so"))
        log = open(self.run / "nbdkit.log", "ab")
        server = subprocess.Popen(
            self.tool("nbdkit", "--foreground", "--unix", str(socket_path), f"--filter={cache}", str(file), f"file={self.disk}",
                      "cache=writeback"),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until("the disk is served", 20, socket_path.exists)
        self.console = self.run / f"console-{self.boots}.log"
        extra = ["-L", str(self.tools / "usr/share/qemu"), "-L", str(self.tools / "usr/share/seabios")] if self.tools else []
        self.parts = [server]
        machine = subprocess.Popen(
            self.tool("qemu-system-x86_64", *extra, "-machine", f"q35,accel={self.accel}", "-smp", "2", "-m", "1024", "-nodefaults",
                      "-no-reboot", "-display", "none", "-serial", f"file:{self.console}",
                      "-kernel", str(self.folder / "vmlinuz"), "-initrd", str(self.folder / "initrd"),
                      "-append", "root=/dev/vda rw console=ttyS0 quiet init=/usr/local/sbin/power-cut-init panic=-1",
                      "-blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={socket_path}",
                      "-device", "virtio-blk-pci,drive=disk,write-cache=on",
                      "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.nats}-:4222,hostfwd=tcp:127.0.0.1:{self.postgres}-:5432",
                      "-device", "virtio-net-pci,netdev=net,romfile="),
            env=self.env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self.parts.append(machine)
        began = time.monotonic()
        until("the guest is up", 600, lambda: machine.poll() is not None or GUEST_UP in self.said())
        if machine.poll() is not None:
            sys.exit(f"the guest has ended; see {self.console} and {log.name}")
        say(f"guest up after {time.monotonic() - began:.0f} s: "
            + "; ".join(line for line in self.said().splitlines() if line.startswith(("witness found", "postgres:"))))

    def said(self):
        return self.console.read_text(errors="replace").replace("\r", "") if self.console.exists() else ""

    def witness(self, verb):
        lines = [line for line in self.said().splitlines() if line.startswith(f"witness {verb} ")]
        return int(lines[-1].split()[-1]) if lines and lines[-1].split()[-1].isdigit() else 0

    def cut(self):
        """Both at once: neither may write what the other still holds."""
        for process in self.parts:
            process.send_signal(signal.SIGSTOP)
        for process in self.parts:
            process.kill()
            process.wait()
        self.parts = []


class Load:
    """Devices that send a reading until it is accepted, under one key, and write down what they were told."""

    def __init__(self, port, token, rate, devices, ledger):
        self.port, self.token, self.rate = port, token, rate
        self.ledger, self.lock = open(ledger, "w", buffering=1), threading.Lock()
        self.accepted, self.refused, self.unknown, self.sent = {}, 0, 0, 0
        self.work, self.stop = queue.Queue(maxsize=devices * 2), threading.Event()
        self.threads = [threading.Thread(target=self.device, daemon=True) for _ in range(devices)]
        self.threads.append(threading.Thread(target=self.clock, daemon=True))

    def start(self):
        for thread in self.threads:
            thread.start()

    def clock(self):
        began, n = time.monotonic(), 0
        while not self.stop.is_set():
            wait = began + n / self.rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            else:
                # What could not be sent meanwhile is not made up for.
                began -= wait
            try:
                self.work.put(n, timeout=1)
                n += 1
            except queue.Full:
                continue
        self.sent = n

    def write(self, key, answer):
        now = time.time()
        with self.lock:
            if answer == 202:
                self.accepted[key] = now
            elif answer is None:
                self.unknown += 1
            else:
                self.refused += 1
            self.ledger.write(json.dumps({"id": key, "at": round(now, 6), "answer": answer}) + "\n")

    def device(self):
        connection = None
        while True:
            try:
                n = self.work.get(timeout=0.5)
            except queue.Empty:
                if self.stop.is_set():
                    return
                continue
            thing, key = f"t{n % 200}", f"k{n}"
            while True:
                try:
                    if connection is None:
                        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
                    connection.request("POST", f"/things/{thing}/readings", json.dumps({"number": n}), {
                        "Authorization": f"Bearer {self.token}", "Idempotency-Key": key, "Content-Type": "application/json"})
                    answer = connection.getresponse()
                    answer.read()
                    status = answer.status
                except (OSError, http.client.HTTPException):
                    connection, status = None, None
                self.write(f"{thing}:{key}", status)
                if status == 202:
                    break
                time.sleep(0.2)

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join(120)
        if any(thread.is_alive() for thread in self.threads):
            sys.exit("some devices are still not answered")


class Site:
    """Bridge and workers, here."""

    def __init__(self, args, run):
        self.bin, self.run, self.processes = args.bin.resolve(), run, []
        self.http = free_port()

    def telltale(self, *words, check=True):
        done = subprocess.run([self.bin / "telltale", *words], cwd=self.run, capture_output=True, text=True)
        if check and done.returncode != 0:
            sys.exit(f"telltale {' '.join(words)}: {done.stderr}{done.stdout}")
        return done.stdout

    def init(self, sync, guest):
        self.telltale("init", "--dir", str(self.run), "--sync", sync, "--nats-listen", "0.0.0.0:4222",
                      "--nats-data", "/var/lib/power-cut/jetstream", "--nats-url", f"nats://127.0.0.1:{guest.nats}",
                      "--database", f"127.0.0.1:{guest.postgres}", "--bridge-url", f"http://127.0.0.1:{self.http}")
        own = self.run / ".telltale"
        self.values = dict(line.split("=", 1) for line in (own / "env").read_text().splitlines() if "=" in line)
        self.values = {name: value.strip("'\"") for name, value in self.values.items()}
        return [own / "nats/nats-server.conf", own / "nats/users.conf", own / "database/password"]

    def start(self, guest):
        credentials = self.run / ".telltale/credentials"
        for name in ("validate", "annotate", "store", "bridge"):
            env = os.environ | {
                "TELLTALE_NATS_URL": f"nats://127.0.0.1:{guest.nats}", "TELLTALE_NATS_SEED_FILE": str(credentials / f"{name}.nk"),
                "TELLTALE_SEAL_KEY_FILE": str(credentials / "seal.key"), "TELLTALE_LOG_FORMAT": "json",
                "TELLTALE_DATABASE_URL": self.values["DATABASE_ADMIN_URL"],
                "TELLTALE_HTTP_LISTEN": f"127.0.0.1:{self.http}", "TELLTALE_MQTT_LISTEN": "127.0.0.1:0"}
            log = open(self.run / f"{name}.log", "ab")
            self.processes.append((name, subprocess.Popen([self.bin / f"telltale-{name}"], env=env, cwd=self.run,
                                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log)))
        until("the bridge is ready", 60, self.ready)

    def pause(self, name, how):
        dict(self.processes)[name].send_signal(how)

    def ready(self):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=5)
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False

    def balance(self):
        try:
            return json.loads(self.telltale("status", "-o", "json", check=False)).get("balance")
        except json.JSONDecodeError:
            return None

    def rows(self):
        out = self.psql("select message_id, count(*) from readings group by message_id")
        return {line.rsplit("|", 1)[0]: int(line.rsplit("|", 1)[1]) for line in out.splitlines() if line}

    def psql(self, query):
        done = subprocess.run(["psql", "--no-psqlrc", "--tuples-only", "--no-align", self.values["DATABASE_URL"], "--command", query],
                              capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"psql: {done.stderr}")
        return done.stdout

    def end(self):
        for _, process in self.processes:
            process.terminate()
        for _, process in self.processes:
            process.wait(30)


def main():
    args = arguments()
    choose = random.Random(args.seed)
    run = args.folder.resolve() / f"run-{args.sync}"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    site = Site(args, run)
    guest = Guest(args.folder.resolve(), run, args.accel)
    guest.make_disk(site.init(args.sync, guest))
    try:
        return attempt(args, choose, run, site, guest)
    finally:
        site.end()
        guest.cut()


def attempt(args, choose, run, site, guest):
    guest.boot()
    site.telltale("provision", "--migrate")
    site.start(guest)
    load = Load(site.http, site.values["BRIDGE_TOKEN"], args.rate, args.devices, run / "ledger.ndjson")
    load.start()
    cuts = []
    for number in range(1, args.cuts + 1):
        # Counted from when readings are accepted again after the last cut, so that each cut falls under load.
        before = len(load.accepted)
        until("readings are accepted", 600, lambda: len(load.accepted) >= before + args.first)
        time.sleep(choose.uniform(*args.seconds))
        site.pause("validate", signal.SIGSTOP)
        stood_still = len(load.accepted)
        time.sleep(args.backlog)
        at = time.time()
        wrote = guest.witness("wrote")
        guest.cut()
        last = sum(1 for when in list(load.accepted.values()) if when > at - 1)
        say(f"cut {number}: {len(load.accepted)} accepted so far, {last} of them in the last second")
        cuts.append({"accepted": len(load.accepted), "in_the_last_second": last, "backlog": len(load.accepted) - stood_still})
        site.pause("validate", signal.SIGCONT)
        time.sleep(3)
        guest.boot()
        found = guest.witness("found")
        cuts[-1] |= {"witness_wrote": wrote, "witness_found": found}
        if found >= wrote:
            sys.exit("what nobody flushed is there: this was no power cut")
    before = len(load.accepted)
    until("readings are accepted again", 300, lambda: len(load.accepted) > before)
    time.sleep(5)
    load.end()
    say(f"{len(load.accepted)} accepted; waiting for rest")
    balance = None
    end = time.monotonic() + args.patience
    while time.monotonic() < end:
        balance = site.balance()
        if balance and balance.get("in_flight") == 0:
            break
        time.sleep(2)
    else:
        say(f"not at rest within {args.patience} s: what is called lost may be on its way")
    rows = site.rows()
    lost = sorted(set(load.accepted) - set(rows))
    result = {
        "sync": args.sync, "cuts": cuts, "accepted": len(load.accepted), "refused": load.refused, "unknown": load.unknown,
        "rows": len(rows), "lost": len(lost), "doubled": sum(1 for n in rows.values() if n != 1),
        "strangers": len(set(rows) - set(load.accepted)), "quarantined": int(site.psql("select count(*) from quarantine")),
        "balance": balance}
    (run / "lost.txt").write_text("\n".join(f"{key} {load.accepted[key]:.3f}" for key in lost))
    print(json.dumps(result, indent=2))
    good = balance and balance.get("in_flight") == 0 and not (result["lost"] or result["doubled"] or result["strangers"] or result["quarantined"])
    return 0 if good and balance.get("missing") == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
