"""Queries of an ORM that are answered from a region, by an option of the statement."""

from dogpile.cache.api import NO_VALUE
from dogpile.cache.region import make_region
from dogpile.cache.util import sha1_mangle_key
from sqlalchemy import ForeignKey, create_engine, event, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, loading, mapped_column, relationship, selectinload
from sqlalchemy.orm.interfaces import UserDefinedOption

REGION = make_region(key_mangler=sha1_mangle_key).configure("dogpile.cache.memory_pickle", expiration_time=3600)
SQL = []


class Base(DeclarativeBase):
    pass


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(order_by="Book.title", back_populates="author")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))
    author: Mapped[Author] = relationship(back_populates="books")


class FromCache(UserDefinedOption):
    """The statement's rows are to be kept in the region.

    :param expiration_time: seconds, instead of the region's.
    :param only: do not ask the database, take what is there.
    """

    propagate_to_loaders = False

    def __init__(self, expiration_time=None, only=False):
        super().__init__()
        self.expiration_time = expiration_time
        self.only = only


def key_of(statement, parameters):
    compiled = statement.compile()
    values = {**compiled.params, **(parameters or {})}
    return f"{compiled} {sorted(values.items())}"


def answer_from_region(state):
    for option in state.user_defined_options:
        if isinstance(option, FromCache):
            key = key_of(state.statement, state.parameters)
            if option.only:
                rows = REGION.get(key, expiration_time=option.expiration_time)
                if rows is NO_VALUE:
                    raise LookupError("these rows are not cached")
            else:
                rows = REGION.get_or_create(
                    key, lambda: state.invoke_statement().freeze(), expiration_time=option.expiration_time
                )
            return loading.merge_frozen_result(state.session, state.statement, rows, load=False)()
    return None


def made():
    engine = create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for name, titles in {"Lem": ["Solaris", "Fiasco"], "Calvino": ["Palomar"], "Unread": []}.items():
            session.add(Author(name=name, books=[Book(title=title) for title in titles]))
        session.commit()
    event.listen(engine, "before_cursor_execute", lambda *told: SQL.append(told[2].split()[0]))
    return engine


def by(name):
    return select(Author).where(Author.name == name).options(selectinload(Author.books))


def show(what, engine, statement):
    before = len(SQL)
    with Session(engine) as session:
        event.listen(session, "do_orm_execute", answer_from_region)
        try:
            found = [(author.name, [book.title for book in author.books]) for author in session.scalars(statement)]
        except LookupError as error:
            found = error
    print(f"{what}: {found}; {len(SQL) - before} statements")


def rename(engine, old, new):
    with Session(engine) as session:
        session.scalars(select(Author).where(Author.name == old)).one().name = new
        session.commit()


def main():
    engine = made()
    cached = FromCache()
    show("plain", engine, by("Lem"))
    show("first", engine, by("Lem").options(cached))
    show("again", engine, by("Lem").options(cached))
    show("another parameter", engine, by("Calvino").options(cached))
    show("only what is there", engine, by("Calvino").options(FromCache(only=True)))
    show("only what is there", engine, by("Unread").options(FromCache(only=True)))
    rename(engine, "Calvino", "Italo Calvino")
    show("stale", engine, by("Calvino").options(cached))
    REGION.invalidate()
    show("invalidated", engine, by("Calvino").options(cached))
    show("by its new name", engine, by("Italo Calvino").options(cached))
    everybody = select(Author).order_by(Author.name).options(selectinload(Author.books))
    show("all", engine, everybody.options(cached))
    show("all", engine, everybody.options(cached))
    REGION.delete(key_of(everybody, None))
    show("all, deleted", engine, everybody.options(cached))
    print(sorted(len(key) for key in REGION.backend._cache))


if __name__ == "__main__":
    main()
