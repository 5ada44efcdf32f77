//! A service manager such as systemd (`Type=notify`): the daemon notifies it of start, status and stop.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use pgdibs_testing::end_to_end::{Cluster, DEADLINE, Place};

/// The next message, its lines in order.
#[track_caller]
fn receive(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a message of the daemon, in time");
    String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn service_manager_is_notified_of_start_server_and_stop() {
    let cluster = Cluster::down(&[]);
    let place = Place::on(&cluster.url());
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();

    let mut daemon = place.start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let messages = receive(&socket);
    assert_eq!(messages[0], "READY=1", "{messages:?}");
    assert!(messages[1].starts_with("STATUS=serving; waiting for"), "{messages:?}");
    daemon.api.get("/livez").expect(200);
    assert_eq!(daemon.api.get("/readyz").status, 503, "READY=1 comes before the server is up");

    cluster.start_again();
    let messages = receive(&socket);
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0].starts_with("STATUS=serving, on PostgreSQL 1"), "{messages:?}");

    daemon.signal(Signal::SIGTERM);
    let messages = receive(&socket);
    assert_eq!(messages[0], "STOPPING=1", "{messages:?}");
    assert!(daemon.ended().0.success(), "{}", daemon.log());
}

#[test]
fn missing_notify_socket_does_not_stop_the_daemon() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let missing = place.path().join("missing");
    let daemon = place.daemon(&[("NOTIFY_SOCKET", missing.to_str().unwrap())]);
    assert!(daemon.log().contains("cannot notify the service manager"), "{}", daemon.log());
    daemon.stop();
}
