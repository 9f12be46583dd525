#!/bin/sh
# The guest's only init: the two servers, and a witness. There is no way to shut down in order; that is the point.
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
# The initial ram disk has mounted some of these already.
mount -t proc proc /proc 2>/dev/null
mount -t sysfs sysfs /sys 2>/dev/null
mount -t devtmpfs devtmpfs /dev 2>/dev/null
mkdir -p /dev/shm /run/postgresql
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
modprobe virtio_net
ip link set lo up
for link in /sys/class/net/e*; do
  ip link set "${link##*/}" up
  ip addr add 10.0.2.15/24 dev "${link##*/}"
done
ip route add default via 10.0.2.2

# What the witness has left on the disk; nobody ever syncs it, so a power cut must take its last lines.
mkdir -p /var/lib/power-cut
touch /var/lib/power-cut/witness
n=$(tail -n 1 /var/lib/power-cut/witness)
echo "witness found ${n:-0}"

chown postgres: /run/postgresql
version=$(ls /usr/lib/postgresql)
bin=/usr/lib/postgresql/$version/bin
data=/var/lib/power-cut/postgres
as_postgres() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
first=
if [ ! -s $data/PG_VERSION ]; then
  first=1
  install -d -o postgres -g postgres -m 0700 $data
  as_postgres "$bin/initdb" --pgdata=$data --encoding=UTF8 --locale=C --auth-local=peer --auth-host=scram-sha-256 >/dev/null
  echo "listen_addresses = '*'" >>$data/postgresql.conf
  echo "host all all 0.0.0.0/0 scram-sha-256" >>$data/pg_hba.conf
fi
# A cut leaves the file of the process id behind; no process has it.
rm -f $data/postmaster.pid
as_postgres "$bin/pg_ctl" start --wait --timeout=300 --pgdata=$data --log=$data/log
if [ -n "$first" ]; then
  printf "create role telltale login createrole password '%s';\ncreate database telltale owner telltale;\n" \
    "$(cat /etc/telltale/password)" | as_postgres "$bin/psql" --quiet --dbname=postgres
  sync
fi
echo "postgres: fsync $(as_postgres "$bin/psql" --tuples-only --no-align --dbname=postgres --command='show fsync')," \
  "$(as_postgres "$bin/psql" --tuples-only --no-align --dbname=postgres --command='show synchronous_commit')"
nats-server --config /etc/telltale/nats-server.conf >/var/lib/power-cut/nats.log 2>&1 &
nats=$!
echo "power-cut guest is up"

n=${n:-0}
while kill -0 $nats 2>/dev/null; do
  n=$((n + 1))
  echo $n >>/var/lib/power-cut/witness
  echo "witness wrote $n"
  sleep 0.5
done
wait $nats
echo "nats-server has ended with $?"
tail -n 20 /var/lib/power-cut/nats.log
exec sleep infinity
