use super::*;

const LANES: u16 = 2;

/// A decision and the time it is told.
struct Story {
    decision: Decision,
    now: Instant,
}

impl Story {
    fn new(option: Transport, control: Carrier, other_failed: Option<&str>) -> Self {
        let way = Way { control, other_failed: other_failed.map(str::to_owned) };
        let now = Instant::now();
        Self { decision: Decision::new(option, &way, LANES, now), now }
    }

    fn with_both() -> Self {
        Self::new(Transport::Auto, Carrier::Tcp, None)
    }

    fn says(&self, carrier: Carrier, words: &str) {
        assert_eq!(self.decision.carrier(), carrier, "{}", self.decision.reason());
        assert!(self.decision.reason().contains(words), "{}", self.decision.reason());
    }

    fn all_up(&mut self, carrier: Carrier) {
        for lane in 0..LANES {
            self.decision.lane_up(self.now, LaneId(lane), carrier);
        }
    }

    /// Lets `ms` pass with `mib` MiB acknowledged in equal steps of 10 ms.
    fn flows(&mut self, ms: u64, mib: u64, acked: Acked) {
        let step = Duration::from_millis(10);
        for _ in 0..ms / 10 {
            self.now += step;
            let wire_bytes = (mib << 20) * 10 / ms;
            self.decision.acked(self.now, &Acked { wire_bytes, plain_bytes: wire_bytes, ..acked });
        }
    }

    /// All lanes fail after they were tried for so long.
    fn fails(&mut self, carrier: Carrier, tried: Duration) {
        let since = self.now;
        self.now += tried;
        for lane in 0..LANES {
            self.decision.lane_failed(self.now, LaneId(lane), (carrier, since));
        }
    }
}

const QUIC: Acked = Acked {
    carrier: Carrier::Quic,
    wire_bytes: 0,
    plain_bytes: 0,
    lanes_limit: true,
    datagram_bytes: Some(1452),
    plain_left: 100 << 30,
};

const TCP: Acked = Acked { carrier: Carrier::Tcp, datagram_bytes: None, ..QUIC };

#[test]
fn the_first_choice_follows_from_the_option_and_from_what_gets_through() {
    use Transport::{Auto, Quic, Tcp};
    Story::new(Quic, Carrier::Quic, None).says(Carrier::Quic, "as chosen");
    Story::new(Tcp, Carrier::Tcp, None).says(Carrier::Tcp, "as chosen");
    Story::with_both().says(Carrier::Quic, "datagrams get through");
    let story = Story::new(Auto, Carrier::Tcp, Some("no answer"));
    story.says(Carrier::Tcp, "UDP does not get through: no answer");
    assert_eq!(story.decision.silence(Carrier::Tcp), Duration::from_secs(8));
    let story = Story::new(Auto, Carrier::Quic, Some("refused"));
    story.says(Carrier::Quic, "TCP does not get through: refused");
    assert_eq!(story.decision.silence(Carrier::Quic), Duration::from_secs(8));
}

#[test]
fn tcp_that_is_faster_stays_and_the_reason_has_the_figures() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1000, 500, QUIC);
    story.says(Carrier::Quic, "datagrams");
    story.flows(400, 200, QUIC);
    story.says(Carrier::Tcp, "on trial");
    assert_eq!(story.decision.patience(Duration::from_secs(10)), UDP_COMES_BACK);
    story.all_up(Carrier::Tcp);
    story.flows(700, 490, TCP);
    story.says(Carrier::Tcp, "TCP measured 1.40 times as fast (700 against 500 MiB/s)");
    story.flows(5000, 10, TCP);
    story.says(Carrier::Tcp, "1.40 times");
}

#[test]
fn tcp_that_is_not_much_faster_is_left_again_and_not_tried_twice() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1500, 750, QUIC);
    story.all_up(Carrier::Tcp);
    story.flows(700, 420, TCP);
    story.says(Carrier::Quic, "TCP measured only 1.20 times");
    story.all_up(Carrier::Quic);
    story.flows(10_000, 5000, QUIC);
    story.says(Carrier::Quic, "only 1.20");
    story.fails(Carrier::Quic, Duration::ZERO);
    story.fails(Carrier::Quic, UDP_COMES_BACK);
    story.says(Carrier::Tcp, "UDP died after 12 s");
}

#[test]
fn there_is_no_trial_where_tcp_cannot_win_or_does_not_pay() {
    for acked in [
        Acked { lanes_limit: false, ..QUIC },
        Acked { datagram_bytes: Some(8952), ..QUIC },
        Acked { plain_left: 100 << 20, ..QUIC },
    ] {
        let mut story = Story::with_both();
        story.all_up(Carrier::Quic);
        story.flows(5000, 2500, acked);
        story.says(Carrier::Quic, "datagrams get through");
    }
    // One lane is missing: less is measured than QUIC can do.
    let mut story = Story::with_both();
    story.decision.lane_up(story.now, LaneId(0), Carrier::Quic);
    story.flows(5000, 2500, QUIC);
    story.says(Carrier::Quic, "datagrams get through");
    // Too few chunks to tell.
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(3000, 30, QUIC);
    story.says(Carrier::Quic, "datagrams get through");
}

#[test]
fn a_trial_that_does_not_come_about_ends() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1500, 750, QUIC);
    story.says(Carrier::Tcp, "on trial");
    story.decision.lane_left(LaneId(0));
    story.fails(Carrier::Tcp, Duration::from_secs(2));
    story.says(Carrier::Quic, "failed over TCP");

    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1500, 750, QUIC);
    story.all_up(Carrier::Tcp);
    story.fails(Carrier::Tcp, Duration::from_secs(8));
    story.says(Carrier::Quic, "failed over TCP");
    story.fails(Carrier::Tcp, Duration::from_secs(8));
    assert_eq!(story.decision.carrier(), Carrier::Quic);

    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1500, 750, QUIC);
    story.decision.lane_up(story.now, LaneId(0), Carrier::Tcp);
    story.flows(5100, 2500, TCP);
    story.says(Carrier::Quic, "could not be measured");
}

#[test]
fn udp_that_dies_gets_two_seconds_to_come_back() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    assert_eq!(story.decision.silence(Carrier::Quic), LANE_SILENCE);
    story.fails(Carrier::Quic, Duration::from_secs(41));
    story.says(Carrier::Quic, "datagrams");
    // It comes back.
    story.now += Duration::from_secs(1);
    story.decision.lane_up(story.now, LaneId(0), Carrier::Quic);
    story.now += Duration::from_secs(9);
    story.fails(Carrier::Quic, Duration::ZERO);
    story.says(Carrier::Quic, "datagrams");
    story.fails(Carrier::Quic, Duration::from_secs(2));
    story.says(Carrier::Tcp, "UDP died after 51 s, TCP since then");
    assert_eq!(story.decision.silence(Carrier::Tcp), Duration::from_secs(8));
}

#[test]
fn one_bad_path_is_not_the_end_of_udp() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    for _ in 0..5 {
        let since = story.now;
        story.now += UDP_COMES_BACK;
        story.decision.lane_failed(story.now, LaneId(0), (Carrier::Quic, since));
    }
    story.says(Carrier::Quic, "datagrams get through");
}

#[test]
fn a_trial_that_cannot_be_measured_in_time_ends() {
    let mut story = Story::with_both();
    story.all_up(Carrier::Quic);
    story.flows(1500, 750, QUIC);
    story.all_up(Carrier::Tcp);
    story.flows(5500, 11, TCP);
    story.says(Carrier::Quic, "could not be measured in time");
}

#[test]
fn lanes_that_never_come_up_over_quic_go_to_tcp() {
    let mut story = Story::with_both();
    story.fails(Carrier::Quic, Duration::from_millis(2050));
    story.says(Carrier::Tcp, "UDP died after 0 s");
}

#[test]
fn nothing_changes_where_the_user_chose_or_there_is_no_other_way() {
    for (option, control, why) in
        [(Transport::Quic, Carrier::Quic, None), (Transport::Auto, Carrier::Quic, Some("blocked"))]
    {
        let mut story = Story::new(option, control, why);
        story.all_up(Carrier::Quic);
        story.flows(5000, 2500, QUIC);
        story.fails(Carrier::Quic, Duration::from_secs(10));
        story.fails(Carrier::Quic, Duration::from_secs(10));
        assert_eq!(story.decision.carrier(), Carrier::Quic);
        assert_eq!(story.decision.patience(Duration::from_secs(10)), Duration::from_secs(10));
    }
}

#[test]
fn lanes_that_watch_hear_of_a_change_once() {
    let switch = Switch::new(Story::with_both().decision);
    let mut watching = switch.watch();
    assert_eq!(*watching.borrow_and_update(), Carrier::Quic);
    switch.tell(|decision, now| decision.lane_up(now, LaneId(0), Carrier::Quic));
    assert!(!watching.has_changed().unwrap());
    let long_ago = Instant::now();
    switch.tell(|decision, now| {
        decision.lane_failed(now, LaneId(0), (Carrier::Quic, now));
    });
    assert!(!watching.has_changed().unwrap(), "it may come back");
    switch.tell(|decision, now| {
        decision.lane_failed(now + UDP_COMES_BACK, LaneId(1), (Carrier::Quic, long_ago));
    });
    assert!(watching.has_changed().unwrap());
    assert_eq!(switch.look(|decision| decision.carrier()), Carrier::Tcp);
}
