//! An entity that a `macro_rules!` writes: names from both sides meet.

macro_rules! register {
    ($name:ident, $value:ty, $set:ident($argument:ident)) => {
        #[derive(Default)]
        pub struct $name {
            value: $value,
        }

        #[casty::entity]
        impl $name {
            #[message]
            async fn $set(&mut self, $argument: $value, ctx: &mut casty::Context<Self>) -> Option<$value> {
                let _ = ctx.entity_id();
                Some(std::mem::replace(&mut self.value, $argument))
            }

            #[message]
            fn get(&self, default: $value) -> $value {
                if self.value == <$value>::default() { default } else { self.value.clone() }
            }
        }
    };
}

register!(Number, i64, set(to));
register!(Text, String, write(text));

fn main() {
    let _: fn(&NumberRef, i64) -> casty::Call<Number, Option<i64>> = NumberRef::set;
    let _ = TextMsg::Write { text: String::new() };
}
