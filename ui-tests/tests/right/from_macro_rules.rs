//! An entity and a state machine that a `macro_rules!` writes: names from both sides meet.

macro_rules! register {
    ($name:ident, $value:ty, $set:ident($argument:ident)) => {
        #[derive(Default)]
        pub struct $name {
            value: $value,
        }

        #[casty::entity]
        impl $name {
            #[message]
            async fn $set(
                &mut self,
                $argument: $value,
                ctx: &mut casty::Context<Self>,
            ) -> Option<$value> {
                let _ = ctx.entity_id();
                Some(std::mem::replace(&mut self.value, $argument))
            }

            #[message]
            fn get(&self, default: $value) -> $value {
                if self.value == <$value>::default() {
                    default
                } else {
                    self.value.clone()
                }
            }
        }
    };
}

register!(Number, i64, set(to));
register!(Text, String, write(text));

macro_rules! switch {
    ($module:ident, $actor:ident, $off:ident => $on:ident, $toggle:ident($argument:ident: $value:ty)) => {
        #[casty::actor]
        pub mod $module {
            #[state(initial)]
            pub struct $off;

            #[state]
            pub struct $on {
                last: $value,
            }

            #[behavior(otherwise = reject)]
            impl $off {
                #[message]
                async fn $toggle(
                    self,
                    $argument: $value,
                    ctx: &mut casty::Context<$actor>,
                ) -> Result<($on, $value), casty::behavior::Stay<Self, String>> {
                    let _ = ctx.node_id();
                    Ok((
                        $on {
                            last: $argument.clone(),
                        },
                        $argument,
                    ))
                }
            }

            #[behavior]
            impl $on {
                #[message]
                fn $toggle(
                    self,
                    $argument: $value,
                ) -> Result<($off, $value), casty::behavior::Stay<Self, String>> {
                    if self.last == $argument {
                        Err(casty::behavior::Stay(self, String::new()))
                    } else {
                        Ok(($off, $argument))
                    }
                }

                #[message]
                fn last(&self) -> $value {
                    self.last.clone()
                }
            }
        }
    };
}

switch!(lamp, Lamp, Off => On, toggle(to: u8));

#[test]
fn works() {
    let _: fn(&NumberRef, i64) -> casty::call::Call<Number, Option<i64>> = NumberRef::set;
    let _: fn(&LampRef, u8) -> casty::call::Call<Lamp, u8, String> = LampRef::toggle;
    let _ = TextMsg::Write {
        text: String::new(),
    };
}
