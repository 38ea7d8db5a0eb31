pub struct Closed;
