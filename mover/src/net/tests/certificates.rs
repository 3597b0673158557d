//! Certificates of the operator, on top of pin and token.

use rcgen::{
    ExtendedKeyUsagePurpose, PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519,
    PKCS_RSA_SHA256,
};

use super::*;
use crate::tls::tests::{Authority, Wanted};
use crate::tls::{Demand, Names, Own};

over_each_transport! {
    ends_that_verify_each_other_come_together,
    a_joiner_with_a_certificate_serves_a_donor_that_demands_none,
    a_name_is_demanded_by_the_donor_only,
    a_joiner_without_a_certificate_is_refused_by_a_donor_that_demands_one,
    a_donor_without_a_certificate_is_refused_by_a_joiner_that_demands_one,
    a_certificate_of_another_authority_is_refused_by_either_end,
    a_certificate_that_has_expired_is_refused_by_either_end,
    a_certificate_for_servers_only_is_none_of_a_donor,
    keys_of_every_kind_that_is_promised_are_used,
    the_pinned_key_counts_whatever_the_certificate_says,
}

/// Both ends as configured, and what became of each.
struct Meeting {
    joiner: Tls,
    donor: Tls,
}

impl Meeting {
    /// The donor's and the joiner's outcome; each has heard a word of the other when it is good.
    async fn hold(self, transport: Transport) -> (Result<()>, Result<()>) {
        let identity = Identity::new(&self.joiner).unwrap();
        self.hold_for((identity.pin(), identity), transport).await
    }

    async fn hold_for(
        self,
        (pin, identity): (Pin, Identity),
        transport: Transport,
    ) -> (Result<()>, Result<()>) {
        let at = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(at, &identity, &only(transport)).unwrap();
        let port = listener.local_addr().port();
        let acceptor = listener.start().unwrap();
        let joining = tokio::spawn(async move {
            let mut met = acceptor.accept().await?.complete(PATIENCE).await?;
            heard(&mut met).await;
            met.writer.write_all(&mut [Bytes::from_static(b"hello")]).await?;
            met.writer.finish().await
        });
        let options = NetOptions { tls: self.donor, ..only(transport) };
        let donating = async {
            let mut met = connect("127.0.0.1", port, pin, &options).await?.connection;
            met.writer.write_all(&mut [Bytes::from_static(b"hello")]).await?;
            let mut word = [0; 5];
            met.reader.read_exact(&mut word).await
        };
        (soon(donating).await, soon(joining).await.unwrap())
    }

    /// Neither end comes to the conversation; both have the code for it. Their words.
    async fn fail(self, transport: Transport) -> (String, String) {
        let (donor, joiner) = self.hold(transport).await;
        let words = |outcome: Result<()>| {
            let error = outcome.unwrap_err();
            assert_eq!(error.code(), Code::WrongKey, "{error}");
            error.to_string()
        };
        (words(donor), words(joiner))
    }

    async fn succeed(self, transport: Transport) {
        let (donor, joiner) = self.hold(transport).await;
        donor.unwrap();
        joiner.unwrap();
    }
}

/// Shows nothing, demands nothing.
fn plain() -> Tls {
    Tls::default()
}

fn shows(authority: &Authority, wanted: Wanted) -> Tls {
    Tls { own: Own::Files(authority.issue(wanted)), peer: Demand::Nothing }
}

fn demands(authority: &Authority, own: Own) -> Tls {
    Tls { own, peer: Demand::Chain(authority.roots()) }
}

fn demands_name(authority: &Authority, names: &[&str]) -> Tls {
    let own = Own::Files(authority.issue(Wanted::default()));
    let names = Names::parse(names).unwrap();
    Tls { own, peer: Demand::ChainAndName(authority.roots(), names) }
}

async fn ends_that_verify_each_other_come_together(transport: Transport) {
    let root = Authority::root();
    let (one, two) = (root.intermediate(), root.intermediate());
    let end =
        |authority: &Authority| demands(&root, Own::Files(authority.issue(Wanted::default())));
    Meeting { joiner: end(&one), donor: end(&two) }.succeed(transport).await;
}

async fn a_joiner_with_a_certificate_serves_a_donor_that_demands_none(transport: Transport) {
    let root = Authority::root();
    let joiner = shows(&root, Wanted::default());
    Meeting { joiner: joiner.clone(), donor: plain() }.succeed(transport).await;
    // What nobody asks for is not shown.
    Meeting { joiner, donor: shows(&root, Wanted::default()) }.succeed(transport).await;
    Meeting { joiner: plain(), donor: shows(&root, Wanted::default()) }.succeed(transport).await;
}

async fn a_name_is_demanded_by_the_donor_only(transport: Transport) {
    let root = Authority::root();
    let donor = |names: &[&str]| demands_name(&root, names);
    // A joiner that is configured like the donor looks at no names.
    let joiner = donor(&["nobody.example"]);
    for names in [&["127.0.0.1"][..], &["localhost"], &["nobody.example", "localhost"]] {
        Meeting { joiner: joiner.clone(), donor: donor(names) }.succeed(transport).await;
    }
    let meeting = Meeting { joiner, donor: donor(&["nobody.example", "192.0.2.7"]) };
    let (donor, joiner) = meeting.fail(transport).await;
    assert!(donor.contains("nobody.example") && donor.contains("localhost"), "{donor}");
    assert!(joiner.contains("another name"), "{joiner}");
}

async fn a_joiner_without_a_certificate_is_refused_by_a_donor_that_demands_one(
    transport: Transport,
) {
    let root = Authority::root();
    let donor = demands(&root, Own::Files(root.issue(Wanted::default())));
    let (donor, joiner) = Meeting { joiner: plain(), donor }.fail(transport).await;
    assert!(donor.contains("this node demands") && donor.contains("UnknownIssuer"), "{donor}");
    assert!(joiner.contains("does not know the authority"), "{joiner}");
}

async fn a_donor_without_a_certificate_is_refused_by_a_joiner_that_demands_one(
    transport: Transport,
) {
    let root = Authority::root();
    let joiner = demands(&root, Own::Files(root.issue(Wanted::default())));
    for donor in [plain(), demands(&root, Own::Ephemeral)] {
        let (donor, joiner) = Meeting { joiner: joiner.clone(), donor }.fail(transport).await;
        assert!(donor.contains("this node has none to show"), "{donor}");
        assert!(joiner.contains("this node demands"), "{joiner}");
    }
}

async fn a_certificate_of_another_authority_is_refused_by_either_end(transport: Transport) {
    let (root, other) = (Authority::root(), Authority::root());
    let of = |authority: &Authority| Own::Files(authority.issue(Wanted::default()));
    let meeting = Meeting { joiner: demands(&root, of(&root)), donor: demands(&root, of(&other)) };
    let (donor, joiner) = meeting.fail(transport).await;
    assert!(donor.contains("refuses the certificate of this node"), "{donor}");
    assert!(donor.contains("does not know the authority"), "{donor}");
    assert!(joiner.contains("this node demands") && joiner.contains("UnknownIssuer"), "{joiner}");
    let meeting = Meeting { joiner: demands(&root, of(&other)), donor: demands(&root, of(&root)) };
    let (donor, joiner) = meeting.fail(transport).await;
    assert!(donor.contains("this node demands"), "{donor}");
    assert!(joiner.contains("refuses the certificate of this node"), "{joiner}");
}

async fn a_certificate_that_has_expired_is_refused_by_either_end(transport: Transport) {
    let root = Authority::root();
    let good = || Own::Files(root.issue(Wanted::default()));
    let old =
        || Own::Files(root.issue_unchecked(Wanted { years: (2000, 2001), ..Wanted::default() }));
    let meeting = Meeting { joiner: demands(&root, good()), donor: demands(&root, old()) };
    let (donor, joiner) = meeting.fail(transport).await;
    assert!(donor.contains("has expired or is not valid yet"), "{donor}");
    assert!(joiner.contains("certificate expired"), "{joiner}");
    let meeting = Meeting { joiner: demands(&root, old()), donor: demands(&root, good()) };
    let (donor, joiner) = meeting.fail(transport).await;
    assert!(donor.contains("certificate expired on Jan  1 00:00:00 2001"), "{donor}");
    assert!(joiner.contains("has expired or is not valid yet"), "{joiner}");
}

async fn a_certificate_for_servers_only_is_none_of_a_donor(transport: Transport) {
    let root = Authority::root();
    let good = Own::Files(root.issue(Wanted::default()));
    let uses = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let donor = shows(&root, Wanted { uses, ..Wanted::default() });
    let (donor, joiner) = Meeting { joiner: demands(&root, good), donor }.fail(transport).await;
    assert!(donor.contains("refuses the certificate of this node"), "{donor}");
    assert!(joiner.contains("client authentication"), "{joiner}");
}

async fn keys_of_every_kind_that_is_promised_are_used(transport: Transport) {
    let kinds = [&PKCS_RSA_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ECDSA_P521_SHA512, &PKCS_ED25519];
    for kind in kinds {
        // The authority, what is between and both ends.
        let root = Authority::root().with_keys(kind);
        let between = root.intermediate();
        let end = || demands(&root, Own::Files(between.issue(Wanted::default())));
        Meeting { joiner: end(), donor: end() }.succeed(transport).await;
    }
}

async fn the_pinned_key_counts_whatever_the_certificate_says(transport: Transport) {
    let root = Authority::root();
    let own = || Own::Files(root.issue(Wanted::default()));
    let (expected, met) = (Identity::new(&demands(&root, own())), demands(&root, own()));
    let meeting = Meeting { joiner: met.clone(), donor: demands(&root, own()) };
    let identities = (expected.unwrap().pin(), Identity::new(&met).unwrap());
    let (donor, _) = meeting.hold_for(identities, transport).await;
    let error = donor.unwrap_err();
    assert_eq!(error.code(), Code::WrongKey, "{error}");
    assert!(error.to_string().contains("not the one in the ticket"), "{error}");
}
