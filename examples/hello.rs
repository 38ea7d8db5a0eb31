//! An actor without a cluster: `cargo run --example hello`

use casty::prelude::*;

/// Greets people, and counts them.
struct Greeter {
    greeting: String,
    greeted: u64,
}

#[actor]
impl Greeter {
    /// Greets one more person.
    #[message]
    fn greet(&mut self, name: String) -> String {
        self.greeted += 1;
        format!("{}, {name}!", self.greeting)
    }

    /// How many people were greeted.
    #[message]
    fn greeted(&self) -> u64 {
        self.greeted
    }

    #[on_stop]
    fn farewell(&mut self) {
        println!("Goodbye to all {}.", self.greeted);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let system = ActorSystem::local("app");
    let greeter = system.spawn(Greeter {
        greeting: "Hello".to_owned(),
        greeted: 0,
    });

    println!("{}", greeter.greet("Alice".to_owned()).await?);
    println!("{}", greeter.greet("Bob".to_owned()).await?);
    println!("{} greeted so far.", greeter.greeted().await?);

    system.shutdown().await?;
    Ok(())
}
