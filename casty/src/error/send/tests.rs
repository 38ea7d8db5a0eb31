use super::*;

#[test]
fn a_tell_error_gives_the_message_back_and_keeps_its_content_out_of_the_log() {
    let error = TellError::new("secret", Failure::Full);
    assert_eq!(
        format!("{error:?}"),
        "TellError(not sent: a queue on the way is full)"
    );
    assert_eq!(error.into_message(), "secret");
}

#[test]
fn an_error_of_a_handler_reads_as_itself() {
    #[derive(Debug, thiserror::Error)]
    #[error("payment was refused")]
    struct Refused(#[source] fmt::Error);

    let error = AskError::Entity(Refused(fmt::Error));
    assert_eq!(error.to_string(), "payment was refused");
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), fmt::Error.to_string());
}

#[test]
fn what_may_have_been_handled_is_never_repeated() {
    let lost = |maybe_handled| AskError::<u8>::Unreachable {
        node: "n".into(),
        reason: "r".into(),
        maybe_handled,
    };
    let not_stored = |possibly| AskError::<u8>::NotStored {
        reason: "r".into(),
        possibly,
    };
    let (pause, reason) = (Duration::from_secs(1), String::new());
    let tried = [
        (AskError::Entity(1), Repeat::Never),
        (
            AskError::Timeout {
                after: pause,
                delay: None,
            },
            Repeat::Never,
        ),
        (lost(true), Repeat::Never),
        (lost(false), Repeat::Soon),
        (AskError::Stopped, Repeat::IfItStartsAgain),
        (AskError::InvalidId(InvalidId::Empty), Repeat::Never),
        (not_stored(true), Repeat::Never),
        (not_stored(false), Repeat::Soon),
        (
            AskError::StoreUnavailable {
                reason: reason.clone(),
            },
            Repeat::Soon,
        ),
        (
            AskError::Unreadable {
                reason: reason.clone(),
            },
            Repeat::Never,
        ),
        (
            AskError::Quarantined {
                reason,
                retry_after: pause,
            },
            Repeat::After(pause),
        ),
    ];
    for (error, repeat) in tried {
        assert_eq!(error.repeat(), repeat, "{error}");
        assert!(repeat == Repeat::Never || !error.maybe_handled(), "{error}");
    }
}

#[test]
fn only_what_may_have_been_handled_says_so() {
    let lost = Failure::Unreachable {
        node: "n".into(),
        reason: "r".into(),
        maybe_handled: true,
    };
    assert!(AskError::<Infallible>::from(lost).maybe_handled());
    assert!(!AskError::<Infallible>::from(Failure::Full).maybe_handled());
    assert!(
        AskError::<Infallible>::Timeout {
            after: Duration::ZERO,
            delay: None,
        }
        .maybe_handled()
    );
}

#[test]
fn a_failure_reads_the_same_to_an_asker_and_to_a_teller() {
    let failures = [
        Failure::Full,
        Failure::NoQuorum,
        Failure::InvalidId(InvalidId::Empty),
        Failure::UnknownEntity {
            name: "Cart".into(),
            role: Some("shop".into()),
        },
        Failure::TooLarge {
            bytes: 2,
            bytes_max: 1,
        },
        Failure::Quarantined {
            reason: "r".into(),
            retry_after: Duration::from_secs(3),
        },
        Failure::Unreachable {
            node: "n".into(),
            reason: "r".into(),
            maybe_handled: false,
        },
        Failure::NotStored {
            reason: "r".into(),
            possibly: true,
        },
        Failure::NotEnoughCopies {
            missing: vec!["n".into(), "m".into()],
            possibly: true,
        },
        Failure::StoreUnavailable { reason: "r".into() },
        Failure::Unreadable { reason: "r".into() },
    ];
    for failure in failures {
        let text = failure.to_string();
        let asked = AskError::<Infallible>::from(failure.clone());
        assert_eq!(asked.to_string(), text);
        let told = TellError::new((), failure);
        assert_eq!(told.to_string(), format!("not sent: {text}"));
    }
}
