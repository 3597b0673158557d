//! Who gets in: tickets, and what they are worth without the other half.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use fastsst_tests::stranger::as_donor;
use fastsst_tests::transfer::{
    Ended, Listing, Receive, Receiving, Sandbox, Send, TRANSFER, wait_under_way,
};
use fastsst_tests::wait::until;

use super::{
    NOTICE, SLOW_MIB_PER_SECOND, assert_untouched, slow_source, small_source, used_target,
};

#[test]
fn a_ticket_is_the_first_line_and_its_token_appears_nowhere_else() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let file = place.path("ticket");
    let receiving = Receive::into(&target).args(["-vv", "--ticket-file"]).args([&file]).start();
    let token = receiving.token();
    assert!(receiving.ticket.starts_with("fastsst://127.0.0.1:"), "{}", receiving.ticket);
    assert_eq!(token.len(), 32);
    assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), receiving.ticket);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "readable by its owner only");

    // A second, wrong visitor on the way, so that there is something to log.
    let wrong = with_part(&receiving.ticket, 5, &"0".repeat(32));
    Send::from(&source, &wrong).args(["-vv"]).run(NOTICE).assert_failed("E13", 13);
    let to = format!("@{}", file.display());
    let sender = Send::from(&source, "").args(["-vv", "--to", &to]).run(NOTICE);
    sender.assert_success();
    let ticket = receiving.ticket.clone();
    let receiver = receiving.wait(NOTICE);
    receiver.assert_success();
    assert_eq!(receiver.stdout, format!("{ticket}\n"), "one line");
    assert!(sender.stderr.len() + receiver.stderr.len() > 1000, "they say everything");
    for ended in [&sender, &receiver] {
        assert!(!ended.stderr.contains(&token), "{ended}");
    }
    assert_eq!(sender.stdout, "");
}

#[test]
fn a_ticket_file_never_gets_somebody_elses_permissions() {
    let place = Sandbox::new();
    for name in ["ticket", "ticket.part", "with.dots.part"] {
        let (file, stolen) = (place.path(name), place.path(&format!("stolen-{name}")));
        // Left behind, readable by everybody; or put there by somebody who wants to read along.
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        let beside = place.path(&format!("{name}.part"));
        symlink(&stolen, &beside).unwrap();
        let target = place.dir(&format!("target-{name}"));
        let receiving = Receive::into(&target).args(["--ticket-file"]).args([&file]).start();
        assert_eq!(fs::read_to_string(&file).unwrap().trim_end(), receiving.ticket, "{name}");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        assert!(!stolen.exists(), "{name}");
    }
}

#[test]
fn a_ticket_file_that_cannot_be_written_or_read_is_named() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let missing = place.path("no-such-directory/ticket");
    let refused = Receive::into(&target).args(["--ticket-file"]).args([&missing]).fail();
    refused.assert_failed_one_of(&[("E03", 13), ("E09", 5)]);
    assert!(refused.stderr.contains("no-such-directory/ticket"), "{refused}");
    let to = format!("@{}", missing.display());
    let refused = Send::from(&source, "").args(["--to", &to]).run(NOTICE);
    refused.assert_failed_one_of(&[("E03", 13), ("E08", 5), ("E10", 22)]);
    assert!(refused.stderr.contains("no-such-directory/ticket"), "{refused}");
}

#[test]
fn a_malformed_ticket_is_refused_and_the_reason_named() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let (pin, token) = ("5a".repeat(32), "c3".repeat(16));
    let cases = [
        (String::new(), "fastsst://"),
        ("nonsense".to_owned(), "fastsst://"),
        (format!("http://127.0.0.1:1/1/{pin}/{token}"), "fastsst://"),
        (format!("fastsst://127.0.0.1:1/2/{pin}/{token}"), "version"),
        (format!("fastsst://:1/1/{pin}/{token}"), "host"),
        (format!("fastsst://a b:1/1/{pin}/{token}"), "host"),
        (format!("fastsst://::1:1/1/{pin}/{token}"), "host"),
        (format!("fastsst://127.0.0.1/1/{pin}/{token}"), "port"),
        (format!("fastsst://127.0.0.1:0/1/{pin}/{token}"), "port"),
        (format!("fastsst://127.0.0.1:65536/1/{pin}/{token}"), "port"),
        (format!("fastsst://127.0.0.1:1/1/{}/{token}", &pin[1..]), "pin"),
        (format!("fastsst://127.0.0.1:1/1/{pin}"), "token"),
        (format!("fastsst://127.0.0.1:1/1/{pin}/{}", &token[1..]), "token"),
        (format!("fastsst://127.0.0.1:1/1/{pin}/{token}/"), "trailing"),
        ("f".repeat(5000), "512"),
    ];
    for (ticket, part) in cases {
        let by_argument = Send::from(&source, "").args([format!("--to={ticket}")]).run(NOTICE);
        let by_input = Send::from(&source, &ticket).run(NOTICE);
        for refused in [by_argument, by_input] {
            refused.assert_failed("E10", 22);
            assert!(refused.stderr.contains(part), "{ticket}: no {part:?} in {refused}");
            assert!(!refused.stderr.contains(&token), "the token is no part of the message");
        }
    }
}

#[test]
fn a_wrong_token_is_refused_and_the_receiver_goes_on_waiting() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let wrong = with_part(&receiving.ticket, 5, &"ab".repeat(16));
    let sender = Send::from(&source, &wrong).run(NOTICE);
    sender.assert_failed("E13", 13);
    assert_untouched(&target, &before);
    receiving.running.wait_logged("E13", NOTICE);
    succeed_after_all(&source, &target, receiving);
}

#[test]
fn a_wrong_key_is_refused_by_the_sender() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    let wrong = with_part(&receiving.ticket, 4, &"ab".repeat(32));
    let sender = Send::from(&source, &wrong).run(NOTICE);
    sender.assert_failed("E12", 13);
    assert_untouched(&target, &before);
    succeed_after_all(&source, &target, receiving);
}

#[test]
fn a_ticket_of_another_receiver_on_the_same_port_is_refused() {
    let place = Sandbox::new();
    let (source, _) = small_source(&place);
    let first = Receive::into(&place.dir("first")).start();
    let (ticket, port) = (first.ticket.clone(), first.port());
    drop(first);
    let second = place.dir("second");
    let receiving = Receive::into(&second).args(["--listen", &format!("127.0.0.1:{port}")]).start();
    Send::from(&source, &ticket).run(NOTICE).assert_failed("E12", 13);
    succeed_after_all(&source, &second, receiving);
}

#[test]
fn a_ticket_is_worthless_after_its_transfer() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let receiving = Receive::into(&target).start();
    let ticket = receiving.ticket.clone();
    Send::from(&source, &ticket).run(NOTICE).assert_success();
    receiving.wait(NOTICE).assert_success();
    let before = Listing::of(&target);
    let sender = Send::from(&source, &ticket).args(["--connect-timeout", "2"]).run(NOTICE);
    sender.assert_failed("E11", 113);
    assert!(sender.stderr.contains("firewall"), "says where to look: {sender}");
    assert_untouched(&target, &before);
}

#[test]
fn a_second_sender_is_refused_and_the_first_is_not_harmed() {
    let place = Sandbox::new();
    let (source, target) = slow_source(&place);
    let receiving = Receive::into(&target).start();
    let first = Send::from(&source, &receiving.ticket).slowly(SLOW_MIB_PER_SECOND).start();
    wait_under_way(&target, 1 << 20);
    let other = place.dir("other");
    fs::write(other.join("file"), "of another sender").unwrap();
    let second: Ended = Send::from(&other, &receiving.ticket).run(NOTICE);
    second.assert_failed("E05", 114);
    receiving.running.wait_logged("second donor", NOTICE);
    // One without the token is refused as well, and learns less.
    let wrong = with_part(&receiving.ticket, 5, &"0".repeat(32));
    Send::from(&other, &wrong).run(NOTICE).assert_failed("E13", 13);
    first.wait(TRANSFER).assert_success();
    receiving.wait(TRANSFER).assert_success();
    Listing::of(&source).assert_eq(&Listing::of(&target), "the first sender's tree");
}

#[test]
fn a_sender_that_proves_itself_and_leaves_ends_the_receiver_without_touching_anything() {
    let place = Sandbox::new();
    let (target, before) = used_target(&place);
    let receiving = Receive::into(&target).args(["--replace"]).start();
    as_donor(&receiving.ticket, async |mut donor| donor.hello().await);
    receiving.wait(NOTICE).assert_failed_one_of(&[("E17", 32), ("E19", 103)]);
    assert_untouched(&target, &before);
}

#[test]
fn a_sender_finds_a_receiver_that_comes_later_than_itself() {
    let place = Sandbox::new();
    let (source, target) = small_source(&place);
    let file = place.path("ticket");
    let receiving = Receive::into(&target).args(["--ticket-file"]).args([&file]).start();
    until("the ticket file is whole", NOTICE, || {
        (fs::read_to_string(&file).is_ok_and(|it| it.trim_end() == receiving.ticket)).then_some(())
    });
    // Until it goes on, it answers as little as one that is not there yet.
    receiving.running.signal(rustix::process::Signal::STOP);
    let sending = Send::from(&source, &receiving.ticket).start();
    std::thread::sleep(Duration::from_millis(1500));
    receiving.running.signal(rustix::process::Signal::CONT);
    sending.wait(NOTICE).assert_success();
    receiving.wait(NOTICE).assert_success();
}

/// The right sender comes, and everything is as if nobody had come before.
fn succeed_after_all(source: &std::path::Path, target: &std::path::Path, receiving: Receiving) {
    Send::from(source, &receiving.ticket).run(NOTICE).assert_success();
    receiving.wait(NOTICE).assert_success();
    Listing::of(source).assert_eq(&Listing::of(target), "source and target differ");
}

/// A ticket with another part: 2 address, 3 version, 4 pin, 5 token.
fn with_part(ticket: &str, number: usize, part: &str) -> String {
    let mut parts: Vec<&str> = ticket.split('/').collect();
    parts[number] = part;
    parts.join("/")
}
