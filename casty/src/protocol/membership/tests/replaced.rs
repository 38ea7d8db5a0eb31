//! A client whose cluster is gone.

use super::*;

/// A client with a map of `a` and `b`.
fn client() -> Process {
    let mut process = Process::joining(MembershipConfig {
        address: None,
        ..config()
    });
    process.map = Some(Arc::new(cluster(&[b(1)])));
    process.handle(MembershipInput::Map);
    process
}

fn looks_around() -> MembershipEffect {
    let places = ["seed", "127.0.0.1:1", "127.0.0.1:2"];
    start(0, LookAround(places.map(ToOwned::to_owned).into()))
}

fn other() -> ClusterIdentity {
    ClusterIdentity {
        uuid: uuid::Uuid::from_u128(99),
        generation: Generation::new(1, 0),
    }
}

#[test]
fn a_client_whose_cluster_is_gone_goes_on_in_the_one_at_its_place_and_says_so() {
    let mut process = client();
    let looks = process.handle(MembershipInput::Stranger);
    assert_eq!(looks, [looks_around()]);
    assert_eq!(
        process.handle(MembershipInput::Stranger),
        [],
        "one at a time"
    );
    let seen = Outcome::Seen(vec![Sight::Nothing, Sight::Other, Sight::Nothing]);
    assert_eq!(process.done(seen), begins(2, 2));
    process.done(Outcome::Forgotten);
    assert_eq!(
        process.done(answers(SeedAnswer::Cluster, Some(other()))),
        [
            MembershipEffect::ClusterReplaced,
            MembershipEffect::Meet(introduction(other())),
        ]
    );
}

#[test]
fn a_client_stays_while_one_member_of_its_cluster_answers_or_none_answers() {
    let mut process = client();
    for sights in [
        [Sight::Other, Sight::Ours],
        [Sight::Nothing, Sight::Nothing],
    ] {
        let looks = process.handle(MembershipInput::Stranger);
        assert_eq!(looks, [looks_around()]);
        assert_eq!(process.done(Outcome::Seen(sights.into())), []);
    }
}

#[test]
fn a_member_never_changes_its_cluster() {
    let mut process = Process::member(config(), &[]);
    assert_eq!(process.handle(MembershipInput::Stranger), []);
}
