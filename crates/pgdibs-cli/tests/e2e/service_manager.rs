//! A service manager such as systemd (`Type=notify`): it hears when the daemon serves, what it is about, and when it stops.

use std::os::unix::net::UnixDatagram;

use nix::sys::signal::Signal;

use crate::support::{Cluster, DEADLINE, Place};

/// The next message, its lines in order.
#[track_caller]
fn hear(socket: &UnixDatagram) -> Vec<String> {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a message of the daemon, in time");
    String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_service_manager_hears_of_the_start_the_server_and_the_stop() {
    let cluster = Cluster::down(&[]);
    let place = Place::on(&cluster.url());
    let path = place.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();

    let mut daemon = place.start(&[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    let said = hear(&socket);
    assert_eq!(said[0], "READY=1", "{said:?}");
    assert!(said[1].starts_with("STATUS=serving; waiting for"), "{said:?}");
    daemon.api.get("/livez").expect(200);
    assert_eq!(daemon.api.get("/readyz").status, 503, "started, though its server is not up");

    cluster.up();
    let said = hear(&socket);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].starts_with("STATUS=serving, on PostgreSQL 1"), "{said:?}");

    daemon.signal(Signal::SIGTERM);
    let said = hear(&socket);
    assert_eq!(said[0], "STOPPING=1", "{said:?}");
    assert!(daemon.ended().0.success(), "{}", daemon.log());
}

#[test]
fn a_service_manager_that_does_not_listen_is_no_reason_to_fail() {
    let cluster = Cluster::start(&[]);
    let place = Place::on(&cluster.url());
    let nobody = place.path().join("nobody");
    let daemon = place.daemon(&[("NOTIFY_SOCKET", nobody.to_str().unwrap())]);
    assert!(daemon.log().contains("cannot notify the service manager"), "{}", daemon.log());
    daemon.stop();
}
