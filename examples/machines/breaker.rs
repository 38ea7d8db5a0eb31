//! A circuit breaker before a service that may be down, whatever the service is.
//!
//! ```mermaid
//! stateDiagram-v2
//!     [*] --> Closed
//!     Closed --> Closed: call
//!     Closed --> Tripped: call
//!     Tripped --> HalfOpen: cool (after 30s)
//!     HalfOpen --> Closed: call
//!     HalfOpen --> Tripped: call
//!     note right of Tripped
//!         stays: call
//!     end note
//! ```

use casty::prelude::*;

/// A service that may fail.
pub trait Backend: Default + Send + Sync + 'static {
    fn call(&self, request: String) -> impl Future<Output = Result<String, String>> + Send;
}

/// Why there is no answer.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The service has failed.
    Failed(String),
    /// The service is not asked for now.
    Tripped,
}

const FAILURES_MAX: u32 = 3;

/// Lets calls pass while the service answers.
#[entity(shards = 20, generic(B: Backend))]
pub mod breaker {
    use super::*;

    /// The line to the service, and how often it has failed in a row.
    #[derive(Default)]
    pub struct Line<B> {
        backend: B,
        failures: u32,
    }

    /// Calls pass.
    #[state(initial)]
    #[derive(Default)]
    pub struct Closed<B>(Line<B>);

    /// No call passes.
    #[state]
    pub struct Tripped<B>(Line<B>);

    /// One call passes, and decides.
    #[state]
    pub struct HalfOpen<B>(Line<B>);

    #[behavior(of(Closed, HalfOpen))]
    impl _ {
        /// Calls the service.
        #[message]
        async fn call(
            self,
            request: String,
        ) -> (OneOf<Closed<B>, Tripped<B>>, Result<String, CallError>) {
            let mut line = self.0;
            let called = line.backend.call(request).await;
            line.failures = called.as_ref().map_or(line.failures + 1, |_| 0);
            let next = if line.failures < FAILURES_MAX {
                Closed(line).into()
            } else {
                Tripped(line).into()
            };
            (next, called.map_err(CallError::Failed))
        }
    }

    #[behavior]
    impl<B: Backend> Tripped<B> {
        #[message]
        fn call(&self, _request: String) -> Result<String, CallError> {
            Err(CallError::Tripped)
        }

        #[message(internal, after = "30s")]
        fn cool(self) -> HalfOpen<B> {
            HalfOpen(self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;
    use crate::Echo;

    fn call(breaker: &mut Machine<Breaker<Echo>>, request: &str) -> Result<String, CallError> {
        let called = breaker.send(|it| it.call(request.to_owned()));
        called.map_err(|error| match error {
            AskError::Entity(error) => error,
            other => panic!("{other:?}"),
        })
    }

    fn failed() -> Result<String, CallError> {
        Err(CallError::Failed("fail".to_owned()))
    }

    #[test]
    fn after_three_failures_in_a_row_no_call_passes() {
        let mut breaker = Machine::<Breaker<Echo>>::new();
        for request in ["fail", "fail", "x", "fail", "fail"] {
            let passed = call(&mut breaker, request);
            assert_ne!(passed, Err(CallError::Tripped));
        }
        assert_eq!(breaker.state(), "Closed");
        assert_eq!(call(&mut breaker, "fail"), failed());
        assert_eq!(breaker.state(), "Tripped");
        assert_eq!(call(&mut breaker, "x"), Err(CallError::Tripped));
    }

    #[test]
    fn after_a_while_one_call_decides() {
        let mut breaker = Machine::<Breaker<Echo>>::new();
        for _ in 0..3 {
            assert_eq!(call(&mut breaker, "fail"), failed());
        }
        breaker.advance(Duration::from_secs(30));
        assert_eq!(breaker.state(), "HalfOpen");
        assert_eq!(call(&mut breaker, "fail"), failed());
        assert_eq!(breaker.state(), "Tripped");
        breaker.advance(Duration::from_secs(30));
        assert_eq!(call(&mut breaker, "x"), Ok("x".to_owned()));
        assert_eq!((breaker.state(), breaker.timers()), ("Closed", vec![]));
    }
}
