//! MQTT brokers that a site may have had before us, and what stands at them: sensors and a lamp.
use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use telltale_cli::{
    find::{Say, ServerArgs, nats_server},
    stack::{Port, scratch},
};
use telltale_tests::{eventually, python};

/// The same for both brokers: within this time a program is there.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// rumqttd, which speaks MQTT 5 and comes as a wheel.
const RUMQTTD: &str = r"
import sys
from iotcore.iotcore import IotCoreBroker
IotCoreBroker(config_path=sys.argv[1]).run_forever()
";

/// Publishes readings with ids of their own at QoS 1; ends once the broker has accepted all.
const SENSORS: &str = r#"
import json, sys, time
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
port, version, first, count = (int(a) for a in sys.argv[1:5])
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="sensors", protocol=version)
client.connect("127.0.0.1", port)
client.loop_start()
sent = []
for n in range(first, first + count):
    reading, said = {"temperature": 21.5}, None
    if version == 5:
        said = Properties(PacketTypes.PUBLISH)
        said.UserProperty = ("id", f"k{n}")
        said.ContentType = "application/json"
    else:
        reading = {"specversion": "1.0", "id": f"k{n}", "source": "/t", "type": "t", "data": reading}
    sent.append(client.publish(f"things/t{n % 5}/readings", json.dumps(reading), qos=1, properties=said))
    time.sleep(0.004)
for one in sent:
    one.wait_for_publish(60)
    assert one.is_published()
client.disconnect()
"#;

/// Publishes one message at QoS 1.
const ONE: &str = r#"
import sys
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="one", protocol=4)
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
sent = client.publish(sys.argv[2], sys.stdin.buffer.read(), qos=1)
sent.wait_for_publish(20)
assert sent.is_published()
client.disconnect()
"#;

/// Says one reading, then does what it is told.
const LAMP: &str = r#"
import json, sys
import paho.mqtt.client as mqtt
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="lamp", protocol=4)
def begin(client, *_):
    client.subscribe("things/lamp/commands/+", 1)
    client.publish("things/lamp/readings", b'{"brightness":0}', qos=1)
def told(client, _, message):
    command = json.loads(message.payload)
    assert message.topic == "things/lamp/commands/" + command["name"], message.topic
    answer = {"state": "succeeded", "output": command["input"]}
    client.publish("things/lamp/outcomes/" + command["id"], json.dumps(answer), qos=1)
client.on_connect, client.on_message = begin, told
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
"#;

/// A program that ends with us.
pub(super) struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Running {
    /// Waits for its end, which is to be a good one.
    pub(super) fn finish(mut self) {
        assert!(self.0.wait().unwrap().success());
    }
}

pub(super) struct Broker {
    process: Running,
    pub(super) port: u16,
    dir: PathBuf,
    start: fn(&PathBuf) -> Child,
}

impl Broker {
    /// nats-server as an MQTT 3.1.1 broker: it keeps sessions on disk.
    pub(super) fn v3() -> Self {
        let (dir, port, other) = (scratch("broker").unwrap(), free(), free());
        let store = dir.join("store");
        let configuration = format!(
            "server_name: site\nlisten: \"127.0.0.1:{other}\"\njetstream {{ store_dir: \"{}\" }}\n\
             mqtt {{ listen: \"127.0.0.1:{port}\", ack_wait: \"2s\", max_ack_pending: 100 }}\n",
            store.display()
        );
        fs::write(dir.join("nats.conf"), configuration).unwrap();
        Self::start(dir, port, |dir| {
            let args = ServerArgs::from_environment().unwrap();
            let mut command = Command::new(nats_server(&args, &Say::nothing()).unwrap());
            command.arg("--config").arg(dir.join("nats.conf"));
            spawn(command, dir)
        })
    }

    /// rumqttd as an MQTT 5 broker: it keeps sessions in memory.
    pub(super) fn v5() -> Self {
        let (dir, port) = (scratch("broker").unwrap(), free());
        let configuration = format!(
            "id = 0\n[router]\nid = 0\nmax_connections = 100\nmax_outgoing_packet_count = 200\nmax_segment_size = 104857600\n\
             max_segment_count = 10\n[v5.1]\nname = \"v5\"\nlisten = \"127.0.0.1:{port}\"\nnext_connection_delay_ms = 1\n\
             [v5.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = 100\n\
             dynamic_filters = true\n"
        );
        fs::write(dir.join("rumqttd.toml"), configuration).unwrap();
        Self::start(dir, port, |dir| {
            let file = dir.join("rumqttd.toml");
            spawn(python::command(RUMQTTD, &[file.to_str().unwrap()]), dir)
        })
    }

    fn start(dir: PathBuf, port: u16, start: fn(&PathBuf) -> Child) -> Self {
        let process = Running(start(&dir));
        let broker = Self {
            process,
            port,
            dir,
            start,
        };
        broker.serves();
        broker
    }

    fn serves(&self) {
        eventually("the broker listens", PATIENCE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.process.0.kill().unwrap();
        self.process.0.wait().unwrap();
    }

    /// Again, after [`Broker::kill`].
    pub(super) fn restart(&mut self) {
        self.process = Running((self.start)(&self.dir));
        self.serves();
    }

    /// So many readings, one after the other; from `first` on in what they are called.
    pub(super) fn sensors(&self, version: u8, first: usize, count: usize) -> Running {
        let arguments = [
            self.port.to_string(),
            version.to_string(),
            first.to_string(),
            count.to_string(),
        ];
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Running(python::command(SENSORS, &arguments).spawn().unwrap())
    }

    pub(super) fn lamp(&self) -> Running {
        Running(python::command(LAMP, &[&self.port.to_string()]).spawn().unwrap())
    }

    /// One message, accepted by the broker.
    pub(super) fn say(&self, topic: &str, payload: &[u8]) {
        let said = python::run(ONE, &[&self.port.to_string(), topic], payload);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.dir.join("log")).unwrap_or_default();
            eprintln!("the broker said:\n{log}");
        }
        fs::remove_dir_all(&self.dir).ok();
    }
}

fn spawn(mut command: Command, dir: &std::path::Path) -> Child {
    let log = fs::File::options()
        .create(true)
        .append(true)
        .open(dir.join("log"))
        .unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn free() -> u16 {
    Port::Free.choose("--ports").unwrap()
}
