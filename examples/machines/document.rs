//! A document that all of its reviewers have to approve before it is published.
//!
//! ```mermaid
//! stateDiagram-v2
//!     state Unpublished {
//!         Draft
//!         note right of Draft
//!             stays: history
//!             otherwise: reject
//!         end note
//!         InReview
//!         note right of InReview
//!             stays: remind (every 24h), history
//!             otherwise: reject
//!         end note
//!         Approved
//!         note right of Approved
//!             stays: history
//!             otherwise: reject
//!         end note
//!     }
//!     [*] --> Draft
//!     Draft --> InReview: submit [has_reviewers]
//!     Draft --> Draft: edit
//!     InReview --> InReview: approve
//!     InReview --> Approved: approve
//!     InReview --> Draft: reject
//!     InReview --> Draft: edit
//!     Approved --> Published: publish
//!     Approved --> Draft: reject
//!     Approved --> Draft: edit
//!     note right of Published
//!         stays: url, history
//!         otherwise: reject
//!     end note
//! ```

use std::collections::BTreeSet;

use casty::prelude::*;

/// What was done, and by whom.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub who: String,
    pub what: String,
}

/// Why a document stays what it is.
#[message]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    NobodyReviews,
    IsNoReviewer(String),
    Press(String),
}

/// Where a document is published. A resource of the node.
#[derive(Clone)]
pub struct Press {
    pub is_down: bool,
}

impl Press {
    async fn print(&self, text: &str) -> Result<String, Refused> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        if self.is_down {
            return Err(Refused::Press("no paper".to_owned()));
        }
        Ok(format!("/{}", text.to_lowercase().replace(' ', "-")))
    }
}

/// A text on its way from the draft to the press. It moves with its shard.
#[entity(shards = 20, migrate)]
#[states(Unpublished = Draft, InReview, Approved)]
pub mod document {
    use super::*;

    /// The text, and what has happened to it.
    #[state(common)]
    #[message]
    #[derive(Default)]
    pub struct Doc {
        text: String,
        history: Vec<Entry>,
    }

    #[state(initial)]
    #[message]
    #[derive(Default)]
    pub struct Draft;

    #[state]
    #[message]
    pub struct InReview {
        missing: BTreeSet<String>,
    }

    #[state]
    #[message]
    pub struct Approved;

    #[state]
    #[message]
    pub struct Published {
        url: String,
    }

    impl Doc {
        fn note(&mut self, who: &str, what: &str) {
            let (who, what) = (who.to_owned(), what.to_owned());
            self.history.push(Entry { who, what });
        }
    }

    #[behavior(of(all), otherwise = reject)]
    impl _ {
        /// What has happened to the document.
        #[message]
        fn history(&self, doc: &Doc) -> Vec<Entry> {
            doc.history.clone()
        }
    }

    #[behavior(of(Unpublished))]
    impl _ {
        /// Changes the text. What is reviewed has to be reviewed again.
        #[message]
        fn edit(self, who: String, text: String, doc: &mut Doc) -> Draft {
            doc.note(&who, "edited");
            doc.text = text;
            Draft
        }
    }

    #[behavior(of(InReview, Approved))]
    impl _ {
        /// Sends it back to its authors.
        #[message]
        fn reject(self, who: String, reason: String, doc: &mut Doc) -> Draft {
            doc.note(&who, &format!("rejected: {reason}"));
            Draft
        }
    }

    #[behavior]
    impl Draft {
        fn has_reviewers(&self, reviewers: &BTreeSet<String>) -> Result<(), Refused> {
            let some = (!reviewers.is_empty()).then_some(());
            some.ok_or(Refused::NobodyReviews)
        }

        /// Asks these for their approval.
        #[message(guard = has_reviewers)]
        fn submit(self, reviewers: BTreeSet<String>) -> InReview {
            InReview { missing: reviewers }
        }
    }

    #[behavior]
    impl InReview {
        /// Approves it. The answer is how many approvals are missing.
        #[message]
        fn approve(
            self,
            who: String,
            doc: &mut Doc,
        ) -> Result<(OneOf<InReview, Approved>, usize), Stay<Self, Refused>> {
            let (me, missing) = self.or_stay(|me| {
                let is_one = me.missing.remove(&who).then_some(());
                is_one.ok_or_else(|| Refused::IsNoReviewer(who.clone()))?;
                Ok(me.missing.len())
            })?;
            doc.note(&who, "approved");
            Ok(match missing {
                0 => (Approved.into(), 0),
                _ => (me.into(), missing),
            })
        }

        /// Reviewers who forget are reminded once a day.
        #[message(internal, every = "24h")]
        fn remind(&mut self, doc: &mut Doc) {
            for who in &self.missing {
                doc.note(who, "was reminded");
            }
        }
    }

    #[behavior]
    impl Approved {
        /// Prints it. The answer is its address.
        #[message]
        async fn publish(
            self,
            doc: &mut Doc,
            ctx: &mut Context<Document>,
        ) -> Result<(Published, String), Stay<Self, Refused>> {
            match ctx.resource::<Press>().print(&doc.text).await {
                Ok(url) => Ok((Published { url: url.clone() }, url)),
                Err(refused) => Err(Stay(self, refused)),
            }
        }
    }

    #[behavior]
    impl Published {
        /// Where it is.
        #[message]
        fn url(&self) -> String {
            self.url.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use casty::testkit::Machine;

    use super::*;

    fn submitted(is_down: bool) -> Machine<Document> {
        let mut document =
            Machine::<Document>::new_with(|builder| builder.resource(Press { is_down }));
        let edited = document.send(|it| it.edit("ann".into(), "On Lifts".into()));
        assert_eq!(edited, Ok(()));
        let reviewers = BTreeSet::from(["bob".to_owned(), "eve".to_owned()]);
        assert_eq!(document.send(|it| it.submit(reviewers)), Ok(()));
        document
    }

    #[test]
    fn all_reviewers_have_to_approve() {
        let mut document = submitted(false);
        assert_eq!(document.send(|it| it.approve("bob".into())), Ok(1));
        let again = document.send(|it| it.approve("bob".into()));
        let refused = Refused::IsNoReviewer("bob".into());
        assert_eq!(again, Err(AskError::Entity(refused)));
        assert_eq!(document.send(|it| it.approve("eve".into())), Ok(0));
        assert_eq!(document.state(), "Approved");
        assert_eq!(document.send(|it| it.publish()), Ok("/on-lifts".into()));
        assert_eq!(document.state(), "Published");
        assert_eq!(document.send(|it| it.url()), Ok("/on-lifts".into()));
    }

    #[test]
    fn somebody_has_to_review_it() {
        let mut document = Machine::<Document>::new();
        let refused = document.send(|it| it.submit(BTreeSet::new()));
        assert_eq!(refused, Err(AskError::Entity(Refused::NobodyReviews)));
        assert_eq!(document.state(), "Draft");
    }

    #[test]
    fn what_cannot_be_printed_stays_approved() {
        let mut document = submitted(true);
        assert_eq!(document.send(|it| it.approve("bob".into())), Ok(1));
        assert_eq!(document.send(|it| it.approve("eve".into())), Ok(0));
        let refused = Refused::Press("no paper".into());
        let published = document.send(|it| it.publish());
        assert_eq!(published, Err(AskError::Entity(refused)));
        assert_eq!(document.state(), "Approved");
    }

    #[test]
    fn who_forgets_is_reminded_and_an_edit_ends_the_review() {
        let mut document = submitted(false);
        assert_eq!(document.send(|it| it.approve("bob".into())), Ok(1));
        document.advance(Duration::from_hours(24));
        let history = document.send(|it| it.history()).unwrap();
        let last = history.last().map(|it| (&*it.who, &*it.what));
        assert_eq!(last, Some(("eve", "was reminded")));
        let edited = document.send(|it| it.edit("ann".into(), "On Stairs".into()));
        assert_eq!(edited, Ok(()));
        assert_eq!((document.state(), document.timers()), ("Draft", vec![]));
    }

    #[test]
    fn a_reviewer_may_send_it_back() {
        let mut document = submitted(false);
        let rejected = document.send(|it| it.reject("eve".into(), "too short".into()));
        assert_eq!((rejected, document.state()), (Ok(()), "Draft"));
    }
}
