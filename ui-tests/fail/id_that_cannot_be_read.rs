use casty::prelude::*;

struct AccountId(u64);

#[derive(Default)]
struct Account;

#[entity(id = AccountId)]
impl Account {
    #[message]
    fn close(&mut self) {}
}

fn main() {
    let _ = AccountId(7).0;
}
