use casty::prelude::*;

#[message]
#[derive(Default)]
pub struct Account {
    owner: String,
}

#[entity(event_sourced)]
impl Account {
    #[message]
    fn rename(&self, owner: String) -> Effect<Self> {
        Effect::persist(AccountEvent::Renamed { owner })
    }

    #[event]
    fn renamed<'a>(&mut self, owner: &'a str) {
        self.owner = owner.to_owned();
    }
}

fn main() {}
