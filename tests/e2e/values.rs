//! What becomes of a value that travels between two nodes.

use casty::prelude::*;

use crate::support::{cluster, entity_on, shutdown, soon};

type Maybe<T> = Option<T>;

#[message]
#[derive(Clone, Debug, PartialEq)]
struct Page<T> {
    next: Option<T>,
}

#[message]
#[derive(Clone, Debug, PartialEq)]
struct Nest(Vec<Nest>);

impl Nest {
    fn of(levels: usize) -> Self {
        (0..levels).fold(Self(Vec::new()), |inner, _| Self(vec![inner]))
    }
}

#[derive(Default)]
struct Mirror;

#[entity]
impl Mirror {
    #[message]
    fn home(&self, ctx: &mut Context<Self>) -> String {
        ctx.node_id().to_string()
    }

    #[message]
    fn page(&self, page: Page<()>) -> Page<()> {
        page
    }

    #[message]
    fn maybe(&self, maybe: Option<Maybe<u8>>, unit: Maybe<()>) -> (Option<Maybe<u8>>, Maybe<()>) {
        (maybe, unit)
    }

    #[message]
    fn nest(&self, nest: Nest) -> usize {
        let mut levels = 0;
        let mut nest = &nest;
        while let [inner] = &nest.0[..] {
            (nest, levels) = (inner, levels + 1);
        }
        levels
    }

    #[message]
    fn nested(&self, levels: usize) -> Nest {
        Nest::of(levels)
    }
}

#[tokio::test]
async fn a_some_of_nothing_stays_a_some_on_its_way_to_another_node() {
    let nodes = cluster(2).await;
    for home in ["node-0", "node-1"] {
        let mirror = entity_on::<Mirror>(&nodes[0], home, MirrorRef::home).await;
        for next in [None, Some(())] {
            let page = Page { next };
            assert_eq!(mirror.page(page.clone()).await, Ok(page));
        }
        for maybe in [None, Some(None), Some(Some(3))] {
            let unit = maybe.map(|_| ());
            assert_eq!(mirror.maybe(maybe, unit).await, Ok((maybe, unit)));
        }
    }
    shutdown(nodes).await;
}

#[tokio::test]
async fn a_message_that_nests_too_deep_is_refused_where_it_is_sent() {
    let nodes = cluster(2).await;
    let mirror = entity_on::<Mirror>(&nodes[0], "node-1", MirrorRef::home).await;
    assert_eq!(mirror.nest(Nest::of(60)).await, Ok(60));
    for levels in [64, 100, 1_000] {
        let asked = mirror.nest(Nest::of(levels)).await;
        assert!(
            matches!(&asked, Err(AskError::Unencodable { reason }) if reason.contains("nests")),
            "{asked:?}"
        );
        let told = mirror.nest(Nest::of(levels)).tell().await;
        assert!(
            matches!(told, Err(TellError::Unencodable { .. })),
            "{told:?}"
        );
        // The handler has run, and its answer cannot leave.
        let reply = soon("an answer", mirror.nested(levels)).await;
        assert!(matches!(reply, Err(AskError::Reply { .. })), "{reply:?}");
    }
    assert_eq!(mirror.nested(60).await, Ok(Nest::of(60)));
    for node in &nodes {
        assert_eq!(node.dead_letters(), 0);
    }
    shutdown(nodes).await;
}
